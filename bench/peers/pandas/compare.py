#!/usr/bin/env python3
"""Reading MIMIC-IV files beside pandas: from the five tables to visits with sets of codes, in the same run, on the same files.

    ENV/bin/python bench/peers/pandas/compare.py --theriac build/bench/bin/theriac --work build/peers [--patients 100000]

ENV is any Python with pandas; that of bench/peers/pyhealth/make_environment.sh has it. pandas gets the plain way that a data frame
invites: read the columns needed, normalise, join the mapping table, drop duplicates, keep visits with all three kinds of codes and
patients with two such visits. Its counts must equal ours, or the comparison stops.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import time

import pandas


def by_pandas(hosp, ndc_atc):
    def read(name, columns):
        return pandas.read_csv(hosp / f"{name}.csv", usecols=columns, dtype=str, keep_default_na=False)

    visits = read("admissions", ["subject_id", "hadm_id", "admittime"])
    visits["admittime"] = pandas.to_datetime(visits["admittime"])
    codes = {}
    for field, table in (("diagnoses", "diagnoses_icd"), ("procedures", "procedures_icd")):
        rows = read(table, ["hadm_id", "icd_code", "icd_version"])
        rows["icd_code"] = rows["icd_code"].str.strip().str.upper().str.replace(".", "", regex=False)
        codes[field] = rows.drop_duplicates()
    classes = pandas.read_csv(ndc_atc, dtype=str)
    classes["atc3"] = classes["atc4"].str[:4]
    drugs = read("prescriptions", ["hadm_id", "ndc"])
    drugs = drugs.merge(classes[["ndc11", "atc3"]], left_on="ndc", right_on="ndc11")
    codes["medications"] = drugs[["hadm_id", "atc3"]].drop_duplicates()
    for rows in codes.values():
        visits = visits[visits["hadm_id"].isin(rows["hadm_id"])]
    visits = visits[visits.groupby("subject_id")["hadm_id"].transform("size") >= 2].sort_values(["subject_id", "admittime", "hadm_id"])
    sets = {field: rows[rows["hadm_id"].isin(visits["hadm_id"])].groupby("hadm_id").agg(list) for field, rows in codes.items()}
    return {"patients": visits["subject_id"].nunique(), "visits": len(visits),
            **{field: int(rows.iloc[:, 0].map(len).sum()) for field, rows in sets.items()}}


def by_theriac(arguments, hosp, ndc_atc):
    out = arguments.work / "import"
    done = subprocess.run([arguments.theriac, "data", "import", "mimic-iv", hosp, "-o", out, "--overwrite", "--json", "--threads", "1",
                           "--set", f"maps.ndc_atc={ndc_atc}"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    info = json.loads(done.stdout)
    return {"patients": info["patients"], "visits": info["visits"],
            **{f: round(info["per_visit"][f]["mean"] * info["visits"]) for f in ("diagnoses", "procedures", "medications")}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theriac", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--patients", type=int, default=100000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    records = arguments.work / f"mimic-iv-{arguments.patients}"
    if not records.exists():
        subprocess.run([arguments.theriac, "data", "generate", "cohort", "-o", records, "--format", "mimic-iv", "--set",
                        f"patients={arguments.patients}", "--quiet"], check=True)
    hosp, ndc_atc = records / "hosp", records / "ndc_atc.csv"
    size = sum(file.stat().st_size for file in hosp.iterdir()) / 1e9
    ways = {"pandas": lambda: by_pandas(hosp, ndc_atc), "theriac": lambda: by_theriac(arguments, hosp, ndc_atc)}
    times, counts = {name: [] for name in ways}, {}
    for _ in range(arguments.runs):
        for name, way in ways.items():
            start = time.perf_counter()
            counts[name] = way()
            times[name].append(time.perf_counter() - start)
    if counts["pandas"] != counts["theriac"]:
        raise SystemExit(f"the two read different cohorts: {counts}")
    median = {name: statistics.median(values) for name, values in times.items()}
    print(f"{arguments.patients} patients, {size:.2f} GB of CSV, {counts['theriac']['visits']} visits kept; median of {arguments.runs}")
    for name, seconds in median.items():
        print(f"{name:<8} {seconds:6.2f} s  {size / seconds:.3f} GB/s")
    print(f"pandas {pandas.__version__} takes {median['pandas'] / median['theriac']:.1f} times as long; ours saves the cohort as well")


if __name__ == "__main__":
    main()
