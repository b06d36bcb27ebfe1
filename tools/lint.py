#!/usr/bin/env python3
"""Checks that need no run: layout, format, scripts, clang-tidy, headers, exported symbols.

    tools/lint.py --build build/release [--fast] [CHECK ...]

Checks: include-graph format scripts headers symbols tidy. --fast leaves out clang-tidy. Ends with "N passed, N failed".
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORE = ["base", "tensorfile", "codes", "data", "metrics", "readers", "generate", "augment", "merge"]
# What each folder may include beside itself (docs/architecture.md).
ALLOWED = {
    "cpp/core/base": set(),
    "cpp/core/tensorfile": {"cpp/core/base"},
    "cpp/core/merge": {"cpp/core/base", "cpp/core/tensorfile"},
    "cpp/core/merge/methods": {"cpp/core/base", "cpp/core/tensorfile", "cpp/core/merge"},
    "cpp/core/codes": {"cpp/core/base"},
    "cpp/core/data": {"cpp/core/base", "cpp/core/codes"},
    "cpp/core/metrics": {"cpp/core/base", "cpp/core/codes", "cpp/core/data"},
    "cpp/core/readers": {"cpp/core/base", "cpp/core/codes", "cpp/core/data"},
    "cpp/core/augment": {"cpp/core/base"},
    "cpp/core/generate": {"cpp/core/base", "cpp/core/codes", "cpp/core/data"},
}
ALL_CORE = {f"cpp/core/{f}" for f in CORE} | {"cpp/core"}
ALLOWED["cpp/core"] = ALL_CORE
ENGINE_BASE = ALL_CORE
ALLOWED.update({
    "cpp/engine/tensor": ENGINE_BASE,
    "cpp/engine/nn": ENGINE_BASE | {"cpp/engine/tensor"},
    "cpp/engine/train": ENGINE_BASE | {"cpp/engine/tensor", "cpp/engine/nn"},
    "cpp/engine/eval": ENGINE_BASE | {"cpp/engine/tensor", "cpp/engine/nn"},
})
MODELS = ENGINE_BASE | {"cpp/engine/tensor", "cpp/engine/nn", "cpp/engine/train", "cpp/engine/eval", "cpp/engine"}
for family in ("clinical", "graph", "sequence", "negatives", "merge"):
    ALLOWED[f"cpp/engine/{family}"] = MODELS
ALLOWED["cpp/engine"] = MODELS | {f"cpp/engine/{f}" for f in ("clinical", "graph", "sequence", "negatives", "merge")}
ALLOWED["capi/src"] = ALL_CORE
ALLOWED["cpp/cli"] = {"cpp/core/base"}
TORCH = re.compile(r'^\s*#\s*include\s*[<"](torch|ATen|c10|caffe2)/', re.M)
INCLUDE = re.compile(r'^\s*#\s*include\s*"((?:cpp|capi)/[^"]+)"', re.M)


def sources(*folders, suffixes=(".h", ".hpp", ".cpp", ".c")):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path


def include_graph():
    """Arrows run downwards only; no LibTorch header outside cpp/engine."""
    problems = []
    for path in sources("capi", "cpp"):
        folder = str(path.parent.relative_to(ROOT))
        test = path.name.endswith("_test.cpp")
        text = path.read_text()
        if not folder.startswith("cpp/engine") and TORCH.search(text):
            problems.append(f"{path.relative_to(ROOT)}: includes a LibTorch header; only cpp/engine may")
        if folder.startswith("capi/include") and INCLUDE.search(text):
            problems.append(f"{path.relative_to(ROOT)}: a public header may not include the project's inner headers")
        if folder not in ALLOWED:
            if not folder.startswith("capi/include"):
                problems.append(f"{path.relative_to(ROOT)}: folder {folder} is not in tools/lint.py's include graph")
            continue
        for target in INCLUDE.findall(text):
            other = str(pathlib.PurePosixPath(target).parent)
            if other != folder and other not in ALLOWED[folder] and not test:
                # The seam: a folder of the engine's models registers itself with registry.h.
                problems.append(f"{path.relative_to(ROOT)}: includes {target}, which is not below {folder}")
    return problems


def formatting():
    """clang-format decides."""
    files = [str(p) for p in sources("capi", "cpp", "examples", "tests", "bench")]
    done = subprocess.run(["clang-format-16", "--dry-run", "--Werror", *files], capture_output=True, text=True)
    return sorted(set(re.findall(r"^(?:%s/)?([^:\n]+):\d+:\d+: error" % re.escape(str(ROOT)), done.stderr, re.M))) if done.returncode else []


def scripts():
    """pyflakes over Python (a name that is not defined waits for the run that reaches it), shellcheck over shell."""
    tracked = [p for p in subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
               if (ROOT / p).is_file()]

    def shebang(path):
        with open(ROOT / path, "rb") as file:
            return file.readline(80)

    python = [p for p in tracked if p.endswith(".py")]
    shell = [p for p in tracked if p.endswith(".sh") or re.match(rb"#!.*\b(ba)?sh\b", shebang(p))]
    problems = subprocess.run(["pyflakes3", *python], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    return problems + subprocess.run(["shellcheck", "--format=gcc", *shell], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()


def headers():
    """theriac.h compiles as every C and C++ it promises, twice in a row, and links from two units."""
    problems = []
    include = str(ROOT / "capi/include")
    matrix = [["gcc", f"-std={s}", "-Wall", "-Wextra", "-Wpedantic", "-Wstrict-prototypes", "-Werror", "-x", "c"] for s in ("c90", "c99", "c11", "c17")]
    matrix += [["g++", f"-std=c++{s}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x", "c++"] for s in ("98", "11", "17", "20", "23")]
    matrix += [["clang-16", "-std=c99", "-Weverything", "-Wno-declaration-after-statement", "-Wno-reserved-macro-identifier", "-Wno-padded", "-Werror", "-x", "c"]]
    for command in matrix:
        done = subprocess.run(command + ["-fsyntax-only", "-I", include, "-"], input="#include <theriac/theriac.h>\n#include <theriac/theriac.h>\nextern int theriac_header_check;\n", capture_output=True, text=True)
        if done.returncode:
            problems.append(" ".join(command[:2]) + ": " + done.stderr.strip()[:400])
    for standard in ("17", "20", "23"):
        done = subprocess.run(["g++", f"-std=c++{standard}", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", include, "-x", "c++", "-"], input="#include <theriac/theriac.hpp>\n", capture_output=True, text=True)
        if done.returncode:
            problems.append(f"theriac.hpp as C++{standard}: " + done.stderr.strip()[:400])
    return problems


def symbols(build):
    """Exports equal the list in theriac.map; no unique symbol; no LibTorch in NEEDED."""
    problems = []
    front = build / "lib/libtheriac.so.1"
    engine = build / "lib/libtheriac_torch.so"
    listed = set(re.findall(r"^\s+(theriac_\w+);", (ROOT / "capi/theriac.map").read_text(), re.M))
    declared = set(re.findall(r"\b(theriac_[a-z_]+)\s*\(", re.sub(r"/\*.*?\*/", "", (ROOT / "capi/include/theriac/theriac.h").read_text(), flags=re.S)))
    if listed != declared:
        problems.append(f"capi/theriac.map and theriac.h differ: {sorted(listed ^ declared)}")

    def exported(path):
        names = {}
        for line in subprocess.run(["nm", "-D", "--defined-only", str(path)], capture_output=True, text=True, check=True).stdout.splitlines():
            _, kind, name = line.split(None, 2)
            names[name.split("@")[0]] = kind
        return names

    names = exported(front)
    extra = set(names) - listed - {"THERIAC_1.0"}
    if extra or listed - set(names):
        problems.append(f"{front.name}: exports {sorted(extra)[:10]} beyond the list, lacks {sorted(listed - set(names))[:10]}")
    for path, allowed in ((front, None), (engine, {"theriac_engine_open"})):
        names = exported(path)
        unique = [n for n, kind in names.items() if kind == "u"]
        if unique:
            problems.append(f"{path.name}: unique symbols {unique[:5]}")
        if allowed is not None and set(names) != allowed:
            problems.append(f"{path.name}: exports {sorted(set(names) - allowed)[:10]}, expected only {sorted(allowed)}")
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", subprocess.run(["readelf", "-d", str(front)], capture_output=True, text=True, check=True).stdout)
    if [n for n in needed if "torch" in n or "c10" in n]:
        problems.append(f"{front.name}: NEEDED names LibTorch: {needed}")
    return problems


def tidy(build):
    """clang-tidy over our sources, tests excepted; all of them with THERIAC_TIDY_ENGINE=1, else without those that include LibTorch,
    which cost half a minute each."""
    commands = json.loads((build / "compile_commands.json").read_text())
    everything = os.environ.get("THERIAC_TIDY_ENGINE") == "1"
    wanted = {}
    for command in commands:
        path = command["file"]
        ours = path.startswith(str(ROOT)) and ("/cpp/" in path or "/capi/src/" in path) and not path.endswith("_test.cpp")
        if ours and (everything or "/cpp/engine/" not in path):
            # GCC's precompiled headers and warnings mean nothing to clang.
            text = re.sub(r" -include \S+cmake_pch\.hxx| -Winvalid-pch| -Wno-(?:restrict|stringop-overflow|array-bounds)", "", command["command"])
            wanted[path] = {**command, "command": text}
    folder = build / "tidy"
    folder.mkdir(exist_ok=True)
    (folder / "compile_commands.json").write_text(json.dumps(list(wanted.values())))

    def one(path):
        done = subprocess.run(["clang-tidy-16", "-p", str(folder), "--quiet", "--warnings-as-errors=*", path], capture_output=True, text=True)
        return [line for line in done.stdout.splitlines() if re.search(r": (warning|error):", line)] or ([done.stderr.strip()[-400:]] if done.returncode else [])

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [p.replace(str(ROOT) + "/", "") for found in pool.map(one, sorted(wanted)) for p in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("checks", nargs="*")
    arguments = parser.parse_args()
    checks = {"include-graph": include_graph, "format": formatting, "scripts": scripts, "headers": headers,
              "symbols": lambda: symbols(arguments.build), "tidy": lambda: tidy(arguments.build)}
    chosen = arguments.checks or [c for c in checks if not (arguments.fast and c == "tidy")]
    failed = 0
    for name in chosen:
        problems = checks[name]()
        failed += bool(problems)
        print(f"{'FAIL' if problems else 'ok  '} {name}", flush=True)
        for problem in problems[:400]:
            print("     " + problem)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
