#!/usr/bin/env python3
"""mergekit 0.1.4 beside Theriac: time and memory on the same files, bfloat16, a base and three models.

    ENV/bin/python bench/peers/mergekit/speed.py --theriac build/bench/bin/theriac --floor build/bench/bench/merge_floor \\
        --work build/peers/mergekit --size 168m [--only ties] [--no-mergekit] [--cold]

Each merge runs --repeat times (in mergekit once); the median counts. `floor` is merge_floor, by turns with the merge: the same
bytes read and written in the same pieces and passes, with nothing computed; the factor is the median over the pairs. Weights .4,
density .5.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

import yaml

import generate

METHODS = {
    "linear": ({"weight": 0.4}, {}),
    "task_arithmetic": ({"weight": 0.4}, {}),
    "ties": ({"weight": 0.4, "density": 0.5}, {}),
    "dare_ties": ({"weight": 0.4, "density": 0.5}, {}),
    "della": ({"weight": 0.4, "density": 0.5}, {}),
    "slerp": ({}, {"t": 0.4}),
    "model_stock": ({}, {}),
}


def recipe_of(method):
    own, shared = METHODS[method]
    names = "a" if method == "slerp" else "abc"
    document = {"merge_method": method, "models": [{"model": name} | ({"parameters": own} if own else {}) for name in names]}
    if method == "slerp":
        document["models"].insert(0, {"model": "base"})
    if method != "linear":
        document["base_model"] = "base"
    else:
        document["models"].insert(0, {"model": "base", "parameters": {"weight": 0.4}})
    if shared:
        document["parameters"] = shared
    return document


def timed(command, folder, environment=None):
    """Seconds, processor seconds, peak megabytes."""
    # By a small process: a child of this one would start with this one's peak.
    done = subprocess.run(["/usr/bin/time", "-f", "%e %U %S %M", *command], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.stderr[-2000:]}")
    wall, user, system, kilobytes = map(float, done.stderr.split("\n")[-2].split())
    return wall, user + system, kilobytes / 1000


def drop_from_cache(folder):
    os.sync()
    for file in folder.rglob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def medians(arguments, runs):
    """Of each run its results' medians. The runs take turns: a shared machine is slower at some times than at others."""
    results = [[] for _ in runs]
    for _ in range(arguments.repeat):
        for run, into in zip(runs, results):
            if arguments.cold:
                drop_from_cache(arguments.models)
            into.append(run())
    return results, [[statistics.median(values) for values in zip(*of_run)] for of_run in results]


def compare(ours, theirs):
    """Share of elements that differ, and by how much at most."""
    import compare as bytes_of
    from safetensors import safe_open
    differing = elements = ulps = 0
    with safe_open(ours / "model.safetensors", "pt") as a, safe_open(theirs / "model.safetensors", "pt") as b:
        for name in a.keys():
            part = bytes_of.Difference({name: a.get_tensor(name)}, {name: b.get_tensor(name)})
            differing, elements, ulps = differing + part.differing, elements + part.all, max(ulps, part.ulps)
    return f"{100 * differing / elements:.2g} %"


def measure(arguments, method):
    file = arguments.work / "recipes" / f"speed-{method}.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(recipe_of(method), sort_keys=False))
    ours, theirs = arguments.work / "out" / "ours", arguments.work / "out" / "theirs"
    report = arguments.work / "report.json"

    def theriac():
        shutil.rmtree(ours, ignore_errors=True)
        return timed([arguments.theriac, "merge", file, ours, "--quiet", "--report", report], arguments.models)

    theriac()
    told = json.loads(report.read_text())
    names = ["base", "a"] if method == "slerp" else ["base", "a", "b", "c"]
    inputs = [arguments.models / name / "model.safetensors" for name in names]
    passes = round(told["bytes_read"] / sum(file.stat().st_size for file in inputs))
    floor_file = arguments.work / "out" / "floor"

    def floor():
        floor_file.unlink(missing_ok=True)
        done = subprocess.run([arguments.floor, floor_file, str(passes), "262144", str(inputs[0].stat().st_size // 1000000), *inputs],
                              check=True, capture_output=True, text=True)
        return (float(done.stdout),)

    floor_seconds = over_floor = float("nan")
    if arguments.floor:
        (of_merge, of_floor), ((seconds, processor, memory), (floor_seconds,)) = medians(arguments, [theriac, floor])
        over_floor = statistics.median(merge[0] / alone[0] for merge, alone in zip(of_merge, of_floor))
    else:
        _, ((seconds, processor, memory),) = medians(arguments, [theriac])
    told = json.loads(report.read_text())
    floor_file.unlink(missing_ok=True)
    elements = inputs[0].stat().st_size / 2
    row = {"method": method, "seconds": seconds, "processor_seconds": processor, "peak_mb": memory, "passes": passes,
           "bytes_read": told["bytes_read"], "bytes_written": told["bytes_written"], "floor_seconds": floor_seconds,
           "over_floor": over_floor, "ns_an_element": 1e9 * processor / elements, "phases": told["seconds"]}
    text = (f"{method:16} {seconds:7.2f} s  cpu {processor:6.2f} s ({row['ns_an_element']:5.1f} ns/element)  {memory:5.0f} MB  passes {passes}"
            f"  floor {floor_seconds:5.2f} s  x{row['over_floor']:.2f}")
    if not arguments.no_mergekit:
        shutil.rmtree(theirs, ignore_errors=True)
        binary = pathlib.Path(sys.executable).parent / "mergekit-yaml"
        peer = timed([binary, file, theirs, "--quiet", "--no-copy-tokenizer", "--no-write-model-card"], arguments.models, os.environ | {"HF_HUB_OFFLINE": "1"})
        row |= {"mergekit_seconds": peer[0], "mergekit_processor_seconds": peer[1], "mergekit_peak_mb": peer[2], "ratio": peer[0] / seconds}
        text += f"  mergekit {peer[0]:7.2f} s {peer[2]:6.0f} MB  ratio {row['ratio']:.1f}"
        if method in ("linear", "task_arithmetic"):
            row["differing"] = compare(ours, theirs)
            text += f"  differing {row['differing']}"
        shutil.rmtree(theirs, ignore_errors=True)
    shutil.rmtree(ours, ignore_errors=True)
    print(text, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theriac", required=True, type=pathlib.Path)
    parser.add_argument("--floor", type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--size", default="168m", choices=["168m", "1.1b"])
    parser.add_argument("--only", default="", help="methods, separated by commas")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="drop the models from the page cache before each run")
    parser.add_argument("--no-mergekit", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.theriac, arguments.work = arguments.theriac.resolve(), arguments.work.resolve()
    arguments.floor = arguments.floor.resolve() if arguments.floor else None
    arguments.work.mkdir(parents=True, exist_ok=True)
    (arguments.work / "out").mkdir(exist_ok=True)
    arguments.models = generate.generate(arguments.size, arguments.work / arguments.size)
    chosen = arguments.only.split(",") if arguments.only else list(METHODS)
    rows = [measure(arguments, method) for method in chosen]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
