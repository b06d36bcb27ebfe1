"""Cases that a script collects with @test and runs one after the other on what it calls its bench."""
import time
import traceback

TESTS = []


class Skip(Exception):
    """A test that can not run here, and why."""


def test(function):
    TESTS.append(function)
    return function


def run_cases(bench, names):
    """Runs the cases whose name contains one of `names` (none: all). Prints a line for each and the totals; the exit status."""
    passed = failed = skipped = 0
    for case in TESTS:
        if names and not any(n in case.__name__ for n in names):
            continue
        started = time.monotonic()
        try:
            case(bench)
            passed += 1
            outcome = "ok"
        except Skip as reason:
            skipped += 1
            outcome = f"Skipped\n{reason}"
        except Exception:
            failed += 1
            outcome = "FAILED\n" + traceback.format_exc()
        print(f"{case.__name__} ({time.monotonic() - started:.1f} s): {outcome}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0
