#!/usr/bin/env python3
"""Runs every fuzz target of a build folder on its seed corpus for some seconds each.

    tests/fuzz/run_fuzzers.py --build build/fuzz --seconds 20

A crash, a leak, an undefined operation, a timeout (10 s an input) or more than 1 GiB of memory is a failure; the input is kept in
build/fuzz/findings. Ends with "N passed, N failed".
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=20)
    arguments = parser.parse_args()
    findings = arguments.build.resolve() / "findings"
    findings.mkdir(exist_ok=True)
    passed = failed = 0
    for program in sorted((arguments.build.resolve() / "fuzz").glob("*_fuzz")):
        name = program.name.removesuffix("_fuzz")
        corpus = HERE / "corpus" / name
        with tempfile.TemporaryDirectory() as scratch:
            command = [program, f"-max_total_time={arguments.seconds}", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1",
                       f"-artifact_prefix={findings}/{name}-", scratch] + ([corpus] if corpus.is_dir() else [])
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        runs = [line.split()[-1] for line in done.stderr.splitlines() if line.startswith("stat::number_of_executed_units")]
        ok = done.returncode == 0
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {runs[0] if runs else '?'} inputs in {arguments.seconds} s", flush=True)
        if not ok:
            print("\n".join(done.stderr.splitlines()[-60:]))
        passed, failed = passed + ok, failed + (not ok)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
