#!/usr/bin/env python3
"""mergekit 0.1.4 beside Theriac: the same recipes on the same checkpoints, tensor by tensor.

    bench/peers/mergekit/make_environment.sh ENV
    ENV/bin/python bench/peers/mergekit/compare.py --theriac build/release/bin/theriac --work build/peers/mergekit [--only WORD]

Every recipe runs in mergekit, in `theriac merge` and in `theriac merge --set accumulate=native`, which must give mergekit's bytes.
Where it does not, mergekit is run again with the recipe's named changes (changes.py), under which it must. Columns:

    native     elements whose bytes differ under accumulate=native; "=" none, "= as changed": none once mergekit is changed so
    default    elements whose bytes differ under accumulate=float32, and the largest difference in units in the last place: of the
               element itself, which says little where it is the small difference of large numbers, and of the tensor's root mean square
    itself     elements that mergekit itself gives otherwise with one thread and without vector instructions

Exit status 1 if any recipe is neither equal nor explained.
"""
import argparse
import json
import logging
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time
import warnings

os.environ.setdefault("PYTHONHASHSEED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
import yaml  # noqa: E402
from safetensors import safe_open  # noqa: E402

import changes  # noqa: E402
import generate  # noqa: E402
import recipes  # noqa: E402

MANTISSA = {torch.bfloat16: 7, torch.float16: 10, torch.float32: 23}
INTEGERS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


def read_model(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            for name in handle.keys():
                tensors[name] = handle.get_tensor(name)
    return tensors


def run_mergekit(document, folder, names=()):
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    cache = folder.parent / f"{folder.name}-lora"
    for old in (folder, cache):
        shutil.rmtree(old, ignore_errors=True)
    options = MergeOptions(quiet=True, copy_tokenizer=False, write_model_card=False, random_seed=0,
                           lora_merge_cache=str(cache), allow_crimes=False)
    LoaderCache().loaders.clear()  # it keeps what adapters were merged into from one merge to the next
    with changes.applied(names):
        run_merge(MergeConfiguration.model_validate(document), str(folder), options)
    return read_model(folder)


def run_theriac(arguments, recipe, folder, mode):
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run([arguments.theriac, "merge", str(recipe), str(folder), "--quiet", "--set", f"accumulate={mode}"],
                          capture_output=True, text=True, cwd=arguments.models)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip() or f"exit status {done.returncode}")
    return read_model(folder)


def ordered(tensor):
    """Bit patterns as integers in the order of the values."""
    bits = tensor.contiguous().view(INTEGERS[tensor.dtype]).to(torch.int64)
    sign = 1 << (15 if tensor.element_size() == 2 else 31)
    return torch.where(bits < 0, -(bits + sign), bits)


class Difference:
    """Elements of two models whose bytes differ, and by how many units in the last place."""

    def __init__(self, ours, theirs):
        self.all = self.differing = self.ulps = self.zeros = 0
        self.typical, self.worst, self.other = 0.0, "", ""
        if set(ours) != set(theirs):
            self.other = f"tensors: {sorted(set(ours) ^ set(theirs))[:3]}"
        for name in sorted(set(ours) & set(theirs)):
            a, b = ours[name], theirs[name]
            if a.dtype != b.dtype or a.shape != b.shape:
                self.other = f"{name}: {a.dtype} {list(a.shape)}, mergekit {b.dtype} {list(b.shape)}"
                continue
            if a.dtype not in INTEGERS:
                continue
            self.all += a.numel()
            unequal = a.contiguous().view(INTEGERS[a.dtype]) != b.contiguous().view(INTEGERS[b.dtype])
            zeros = unequal & (a == 0) & (b == 0)
            self.zeros += int(zeros.sum())
            unequal &= ~zeros
            if unequal.any():
                self.differing += int(unequal.sum())
                ulps = int((ordered(a)[unequal] - ordered(b)[unequal]).abs().max())
                if ulps > self.ulps:
                    self.ulps, self.worst = ulps, name
                step = 2.0 ** (math.floor(math.log2(float(b.double().square().mean().sqrt()) or 1.0)) - MANTISSA[b.dtype])
                self.typical = max(self.typical, float((a.double() - b.double()).abs().max()) / step)

    def equal(self):
        return not self.other and self.differing == 0

    def text(self):
        if self.other:
            return self.other
        if self.differing == 0:
            return "="
        return f"{100 * self.differing / max(1, self.all):.3g} % ({self.ulps} ulp, {self.typical:.2g} of a typical value)"


def write_recipe(arguments, name, document):
    file = arguments.work / "recipes" / (name.replace(" ", "-").replace(",", "").replace(".", "") + ".yml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


class Row:
    def __init__(self, name):
        self.name, self.native, self.default, self.itself, self.why, self.bad = name, "", "", "", (), False


def compare_one(arguments, name, recipe):
    row = Row(name)
    file = write_recipe(arguments, name, recipe.document)
    out = arguments.work / "out"
    out.mkdir(parents=True, exist_ok=True)
    try:
        native = run_theriac(arguments, file, out / "native", "native")
        default = run_theriac(arguments, file, out / "default", "float32")
    except RuntimeError as error:
        row.native, row.bad = f"theriac: {error}", True
        return row
    try:
        theirs = run_mergekit(recipe.document, out / "mergekit")
    except Exception as error:  # noqa: BLE001: whatever mergekit dies of
        theirs = None
        row.native = f"mergekit fails: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    difference = Difference(native, theirs) if theirs is not None else None
    changed = theirs
    if difference is None or not difference.equal():
        if recipe.changes:
            try:
                changed = run_mergekit(recipe.document, out / "changed", recipe.changes)
                after = Difference(native, changed)
                row.why = recipe.changes
                own = row.native or difference.text()
                row.native = f"{own}; as changed {after.text()}"
                row.bad = not after.equal()
                row.worst = after.worst
            except Exception as error:  # noqa: BLE001
                row.native += f"; changed: {type(error).__name__}: {error}"
                row.bad = True
        else:
            row.bad = True
            row.native = row.native or difference.text() + f" ({difference.worst})"
    else:
        row.native = "="
        row.zeros = difference.zeros
    if changed is not None:
        row.default = Difference(default, changed).text()
    if arguments.itself and theirs is not None:
        other = arguments.work / "itself" / file.stem
        if other.exists():
            row.itself = Difference(read_model(other), theirs).text()
    return row


def mergekit_by_itself(arguments, chosen):
    """All recipes in a mergekit with one thread and plain loops, in a process of its own."""
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only-mergekit"], env=environment, check=True)


def only_mergekit(arguments, chosen):
    torch.set_num_threads(1)
    for name, recipe in chosen.items():
        try:
            run_mergekit(recipe.document, arguments.work / "itself" / write_recipe(arguments, name, recipe.document).stem)
        except Exception as error:  # noqa: BLE001
            logging.error("%s: %s", name, error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theriac", required=True, type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--only", default="", help="recipes whose name contains this")
    parser.add_argument("--itself", action="store_true", help="also how far mergekit differs from itself")
    parser.add_argument("--only-mergekit", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") is None:
        raise SystemExit("set PYTHONHASHSEED")
    arguments.theriac, arguments.work = arguments.theriac.resolve(), arguments.work.resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    arguments.models = generate.generate("tiny", arguments.work / "tiny")
    os.chdir(arguments.models)
    chosen = {name: recipe for name, recipe in recipes.RECIPES.items() if arguments.only in name}
    if arguments.only_mergekit:
        return only_mergekit(arguments, chosen)
    if arguments.itself:
        mergekit_by_itself(arguments, chosen)
    started = time.time()
    rows = []
    for name, recipe in chosen.items():
        row = compare_one(arguments, name, recipe)
        rows.append(row)
        print(f"{'FAIL' if row.bad else 'ok  '} {row.name:44} native {row.native:64} default {row.default}"
              f"{'; itself ' + row.itself if row.itself else ''}{'; ' + ', '.join(row.why) if row.why else ''}", flush=True)
    used = sorted({why for row in rows for why in row.why})
    if used:
        print("\nchanges to mergekit that give our bytes:")
    for why in used:
        print(f"  {why}: {changes.REASONS[why]}")
    bad = [row for row in rows if row.bad]
    print(f"\n{len(rows)} recipes, {sum(row.native == '=' for row in rows)} with mergekit's own bytes, "
          f"{sum(bool(row.why) and not row.bad for row in rows)} explained, {len(bad)} neither; {time.time() - started:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(row) for row in rows], indent=1, default=list))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
