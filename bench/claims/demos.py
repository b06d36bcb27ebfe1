#!/usr/bin/env python3
"""HIER against id vectors on the two MIMIC demos, with intervals (docs/hierarchy-claim.md).

    bench/claims/demos.py CLINICAL_DATA [--work build/claims/demos] [--jobs 2]        theriac must be on the PATH

Every patient is left out once: the models train on the others with settings that were fixed beforehand, and recommend for each of
the patient's visits from the second on. A patient counts by the mean over those visits. Intervals are the middle 95 % of 10,000
bootstrap draws of patients; a difference is taken patient by patient before it is drawn.
"""
import argparse
import concurrent.futures
import json
import pathlib
import random
import shutil
import subprocess

SETTINGS = ["train.epochs=20", "train.batch_size=8", "train.learning_rate=0.001"]
IDS = ["encoder.use_relation=false", "encoder.use_position=false", "encoder.use_id=true"]
METRICS = ("prauc", "jaccard", "f1")


def theriac(*arguments):
    done = subprocess.run(["theriac", *map(str, arguments), "--json", "--threads", "1"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"theriac {' '.join(map(str, arguments))}: {done.stderr}")
    return json.loads(done.stdout) if done.stdout else {}


def settings(pairs):
    return [part for pair in pairs for part in ("--set", pair)]


def methods(data, cache):
    lists = [f"lists.{name}={data / name / 'nodes.csv.gz'}" for name in ("icd9cm", "icd9proc", "icd10cm")]
    hier = SETTINGS + lists + ["tree.epochs=20", f"table_cache={cache}"]
    return {
        "GAMENet, HIER": ("gamenet", hier), "GAMENet, ids": ("gamenet", SETTINGS + IDS),
        "RETAIN, HIER": ("retain", hier), "RETAIN, ids": ("retain", SETTINGS + IDS),
        "nearest visit": ("nearest_visit", []), "most frequent": ("most_frequent", []),
        "logistic regression": ("logistic_regression", []),
    }


def leave_out(cohort, work, fold, folds, table):
    """Metrics of each method for the one patient that this fold leaves out; None where no visit could be measured."""
    folder = work / f"fold-{fold}"
    theriac("data", "split", cohort, "-o", folder, *settings(["how=fold", f"folds={folds}", f"fold={fold}", "valid=0"]))
    row = {}
    for name, (method, options) in table.items():
        model = folder / "model"
        theriac("fit", method, "--data", folder / "train", "-o", model, "--seed", 1, "--overwrite", *settings(options))
        report = theriac("evaluate", model, "--data", folder / "test", *settings(["aggregation=per_patient", "skip_first=true"]))
        row[name] = {metric: report["metrics"][metric] for metric in METRICS}
    shutil.rmtree(folder)
    return row


def interval(values, draws=10000):
    """Mean, and the 2.5th and 97.5th percentile of the mean over redrawn patients."""
    source = random.Random(2048)
    means = sorted(sum(source.choices(values, k=len(values))) / len(values) for _ in range(draws))
    return sum(values) / len(values), means[int(0.025 * draws)], means[int(0.975 * draws)]


def report(title, rows):
    names = list(rows[0])
    print(f"\n{title}: {len(rows)} patients\n\n| | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
    for name in names:
        cells = [interval([row[name][m] for row in rows if row[name][m] is not None]) for m in METRICS]
        print(f"| {name} | " + " | ".join("%.3f (%.3f to %.3f)" % cell for cell in cells) + " |")
    for backbone in ("GAMENet", "RETAIN"):
        for other, label in ((f"{backbone}, ids", f"{backbone}: HIER minus ids"), ("nearest visit", f"{backbone}: HIER minus nearest visit"),
                             ("most frequent", f"{backbone}: HIER minus most frequent")):
            cells = [interval([row[f"{backbone}, HIER"][m] - row[other][m] for row in rows if row[other][m] is not None]) for m in METRICS]
            print(f"| {label} | " + " | ".join("%+.3f (%+.3f to %+.3f)" % cell for cell in cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/claims/demos"))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    maps = [f"maps.ndc_rxcui={data / 'rxnorm/ndc_rxcui.csv'}", f"maps.rxcui_atc={data / 'nc-restricted/rxcui_atc.csv'}",
            f"maps.ndc_atc={data / 'nc-restricted/ndc_atc.csv'}"]
    for title, layout, path in (("MIMIC-III demo", "mimic-iii", data / "mimic-iii-demo"), ("MIMIC-IV demo", "mimic-iv", data / "mimic-iv-demo/hosp")):
        work = arguments.work / layout
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        theriac("data", "import", layout, path, "-o", work / "cohort", *settings(maps))
        folds = theriac("data", "info", work / "cohort")["patients"]
        table = methods(data, arguments.work / "trees")
        rows = [leave_out(work / "cohort", work, 0, folds, table)]  # alone: it trains the trees that the others share
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            rows += pool.map(lambda fold: leave_out(work / "cohort", work, fold, folds, table), range(1, folds))
        (work / "patients.json").write_text(json.dumps(rows, indent=1))
        report(title, rows)


if __name__ == "__main__":
    main()
