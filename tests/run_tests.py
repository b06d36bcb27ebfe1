#!/usr/bin/env python3
"""Runs every test program of the build folders and prints one total.

    tests/run_tests.py --build build/dev --tsan build/tsan --release build/release [NAME ...]

Programs are what ctest knows in a folder. Each is a GoogleTest program, or one that ends with a line
"N passed, N failed[, N skipped]". A program that crashes, times out or reports nothing counts as one failure.
NAME keeps only the programs whose name contains it. Exit status 1 if anything failed.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"  # where THERIAC_DATA_DIR names no other folder
PLAIN = re.compile(r"^(?:\w+: )?(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)
GTEST_PASSED = re.compile(r"^\[  PASSED  \] (\d+) tests?\.", re.M)
GTEST_FAILED = re.compile(r"^\[  FAILED  \] (\d+) tests?, listed below", re.M)
GTEST_SKIPPED = re.compile(r"^\[  SKIPPED \] (\d+) tests?, listed below", re.M)
SKIP_REASON = re.compile(r"Skipped\n(.*)")


def programs(folder, label):
    text = subprocess.run(["ctest", "--test-dir", folder, "--show-only=json-v1"], capture_output=True, text=True, check=True).stdout
    for test in json.loads(text)["tests"]:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        if "command" not in test:
            continue
        labels = properties.get("LABELS", [])
        if label and label not in labels:
            continue
        if not label and "thread" in labels and "only-tsan" in labels:
            continue
        environment = dict(entry.split("=", 1) for entry in properties.get("ENVIRONMENT", []))
        yield test["name"], test["command"], properties.get("WORKING_DIRECTORY", folder), float(properties.get("TIMEOUT", 600)), environment


def run(name, command, cwd, timeout, environment):
    started = time.monotonic()
    try:
        done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                              env={**os.environ, **environment}, stdin=subprocess.DEVNULL)
        output, status = done.stdout.decode("utf-8", "replace"), done.returncode
    except subprocess.TimeoutExpired as expired:
        output, status = (expired.stdout or b"").decode("utf-8", "replace") + f"\ntimed out after {timeout:.0f} s", -1
    except OSError as error:
        output, status = str(error), -1
    passed = failed = skipped = 0
    if "[==========]" in output:
        passed = sum(map(int, GTEST_PASSED.findall(output)))
        failed = sum(map(int, GTEST_FAILED.findall(output)))
        skipped = sum(map(int, GTEST_SKIPPED.findall(output)))
    elif PLAIN.findall(output):
        last = PLAIN.findall(output)[-1]
        passed, failed, skipped = int(last[0]), int(last[1]), int(last[2] or 0)
    if (status != 0 or passed + failed + skipped == 0) and failed == 0:
        failed = 1
        output += f"\n{name}: exit status {status}"
    print(f"{'FAIL' if failed else 'ok  '} {name:<44} {passed:>4} passed {failed:>3} failed {skipped:>3} skipped {time.monotonic() - started:7.1f} s", flush=True)
    if failed:
        print("\n".join(output.splitlines()[-120:]), flush=True)
    elif skipped:
        for reason in sorted(set(r.strip() for r in SKIP_REASON.findall(output) if r.strip())):
            print(f"       skipped: {reason}")
    return passed, failed, skipped


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", help="folder with every test (ASan, UBSan)")
    parser.add_argument("--tsan", help="folder built with ThreadSanitizer: programs labelled 'thread'")
    parser.add_argument("--release", help="optimised folder: programs labelled 'release'")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    if DATA.is_dir():
        os.environ.setdefault("THERIAC_DATA_DIR", str(DATA))
    totals = [0, 0, 0]
    for folder, label in ((arguments.build, ""), (arguments.tsan, "thread"), (arguments.release, "release")):
        if not folder:
            continue
        print(f"-- {folder}", flush=True)
        for name, *rest in programs(folder, label):
            if arguments.names and not any(n in name for n in arguments.names):
                continue
            if label == "" and os.environ.get("THERIAC_SKIP_" + name.upper()):
                continue
            for i, n in enumerate(run(name, *rest)):
                totals[i] += n
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    return 1 if totals[1] or not totals[0] else 0


if __name__ == "__main__":
    sys.exit(main())
