#!/usr/bin/env python3
"""Test-time augmentation of medication models, with intervals: a table, whatever it shows (docs/test-time-augmentation.md).

    bench/claims/augment_medication.py [CLINICAL_DATA] [--work build/claims/augment] [--jobs 2]        theriac must be on the PATH

Codes of past visits are left out of ten copies of a patient's history, moved, exchanged or added; probabilities are averaged. Models see ids and were fixed
beforehand. On the demos, where CLINICAL_DATA has them, every patient is left out once; on a synthetic cohort one third of the patients is
held out. A patient counts by the mean over visits from the second on. Intervals: the middle 95 % of 10,000 bootstrap draws of patients, of
the difference to plain prediction, taken patient by patient.
"""
import argparse
import concurrent.futures
import json
import pathlib
import shutil

from demos import IDS, METRICS, SETTINGS, interval, settings, theriac

OPERATORS = {
    "TMask-R .2": {"op": "tmask_r", "ratio": 0.2}, "TMask-R .5": {"op": "tmask_r", "ratio": 0.5}, "reorder .5": {"op": "reorder", "ratio": 0.5},
    "substitute .2": {"op": "substitute", "ratio": 0.2, "similar": "item_cf"}, "insert .2": {"op": "insert", "ratio": 0.2, "similar": "item_cf"},
}
METHODS = ("retain", "gamenet")


def scores(model, data):
    """{"plain": metrics, operator: metrics} of one data set."""
    protocol = settings(["aggregation=per_patient", "skip_first=true"])
    rows = {"plain": theriac("evaluate", model, "--data", data, *protocol)["metrics"]}
    for name, operator in OPERATORS.items():
        rows[name] = theriac("evaluate", model, "--data", data, "--augment", json.dumps({**operator, "copies": 10}), *protocol)["metrics"]
    return rows


def fit(method, folder):
    model = folder / f"model-{method}"
    theriac("fit", method, "--data", folder / "train", "-o", model, "--seed", 1, "--overwrite", *settings(SETTINGS + IDS))
    return model


def leave_out(cohort, work, fold, folds):
    """By method: the scores of the one patient that this fold leaves out."""
    folder = work / f"fold-{fold}"
    theriac("data", "split", cohort, "-o", folder, *settings(["how=fold", f"folds={folds}", f"fold={fold}", "valid=0"]))
    rows = {method: scores(fit(method, folder), folder / "test") for method in METHODS}
    shutil.rmtree(folder)
    return rows


def held_out(cohort, work):
    """By held-out patient and method, from one fit each."""
    theriac("data", "split", cohort, "-o", work / "parts", "--overwrite", *settings(["valid=0", "test=0.33"]))
    models = {method: fit(method, work / "parts") for method in METHODS}
    count = theriac("data", "info", work / "parts" / "test")["patients"]
    rows = []
    for patient in range(count):
        part = work / "one"
        theriac("data", "split", work / "parts" / "test", "-o", part, "--overwrite",
                *settings(["how=fold", f"folds={count}", f"fold={patient}", "valid=0"]))
        rows.append({method: scores(model, part / "test") for method, model in models.items()})
    return rows


def report(title, rows):
    print(f"\n{title}: {len(rows)} patients; change against plain prediction\n")
    print(f"| | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
    for method in METHODS:
        for name in rows[0][method]:
            def value(row, metric, which=name, how=method):
                return row[how][which][metric]
            known = {m: [row for row in rows if value(row, m, "plain") is not None] for m in METRICS}
            if name == "plain":
                cells = ["%.3f" % (sum(value(row, m) for row in known[m]) / len(known[m])) for m in METRICS]
            else:
                cells = ["%+.3f (%+.3f to %+.3f)" % interval([value(row, m) - value(row, m, "plain") for row in known[m]]) for m in METRICS]
            print(f"| {method}, {name} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, nargs="?")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/claims/augment"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--patients", type=int, default=400, help="of the synthetic cohort")
    arguments = parser.parse_args()
    work = arguments.work
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    theriac("data", "generate", "cohort", "-o", work / "records", "--seed", 3, *settings([f"patients={arguments.patients}"]))
    theriac("data", "import", "fhir", work / "records", "-o", work / "cohort")
    report("Synthetic cohort", held_out(work / "cohort", work))
    if arguments.data is None:
        return
    data = arguments.data.resolve()
    maps = [f"maps.ndc_rxcui={data / 'rxnorm/ndc_rxcui.csv'}", f"maps.rxcui_atc={data / 'nc-restricted/rxcui_atc.csv'}",
            f"maps.ndc_atc={data / 'nc-restricted/ndc_atc.csv'}"]
    for title, layout, path in (("MIMIC-III demo", "mimic-iii", data / "mimic-iii-demo"), ("MIMIC-IV demo", "mimic-iv", data / "mimic-iv-demo/hosp")):
        folder = work / layout
        folder.mkdir()
        theriac("data", "import", layout, path, "-o", folder / "cohort", *settings(maps))
        folds = theriac("data", "info", folder / "cohort")["patients"]
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            report(title, list(pool.map(lambda fold, f=folder, n=folds: leave_out(f / "cohort", f, fold, n), range(folds))))


if __name__ == "__main__":
    main()
