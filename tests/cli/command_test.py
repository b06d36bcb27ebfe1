#!/usr/bin/env python3
"""The command `theriac` as a user meets it: the main job on generated data, exit statuses, errors, kill and resume, and the
golden cohorts of the MIMIC demos where they are present.

    tests/cli/command_test.py --bin build/release/bin/theriac --examples build/release/examples

Ends with "N passed, N failed, N skipped".
"""
import argparse
import gzip
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from cases import Skip, run_cases, test

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = pathlib.Path(os.environ.get("THERIAC_DATA_DIR", ROOT.parent / "shared" / "data"))
CLINICAL = DATA / "clinical"


class Bench:
    """The program under test and a folder to work in; the model is trained once."""

    def __init__(self, binary, examples, folder):
        self.binary, self.examples, self.folder = binary, examples, folder
        self._made = {}

    def run(self, *arguments, status=0, stdin="", timeout=600):
        done = subprocess.run([self.binary, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=timeout, cwd=self.folder)
        assert done.returncode == status, f"theriac {' '.join(map(str, arguments))}: exit status {done.returncode}, expected {status}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done

    def json(self, *arguments, **keywords):
        done = self.run(*arguments, "--json", **keywords)
        assert done.stderr == "", f"--json wrote to stderr: {done.stderr[:500]}"
        return json.loads(done.stdout)

    def fails(self, expected_status, *parts_and_arguments, stdin=""):
        """fails(status, [parts of the message], arguments...)"""
        parts, arguments = parts_and_arguments[0], parts_and_arguments[1:]
        done = self.run(*arguments, status=expected_status, stdin=stdin)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, f"one line of error expected, got: {done.stderr}"
        for part in parts:
            assert part in lines[0], f"'{part}' not in: {lines[0]}"
        return lines[0]

    def once(self, name, make):
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def cohort(self):
        def make():
            self.run("data", "generate", "cohort", "-o", "fhir", "--format", "fhir", "--set", "patients=120", "--seed", "11", "--quiet")
            self.run("data", "import", "fhir", "fhir", "-o", "cohort", "--quiet")
            self.run("data", "split", "cohort", "-o", "split")
            return "cohort"
        return self.once("cohort", make)

    SMALL = ("--set", "encoder.dim=16", "--set", "train.epochs=3", "--set", "tree.epochs=3", "--seed", "3", "--threads", "1")

    def model(self):
        self.cohort()
        return self.once("model", lambda: self.run("fit", "gamenet", "--data", "split/train", "--valid", "split/valid", "-o", "model", *self.SMALL, "--quiet") and "model")

    def sequences(self):
        def make():
            self.run("data", "generate", "sequences", "-o", "sequences.txt", "--set", "users=300", "--set", "items=80", "--seed", "11", "--quiet")
            self.run("data", "import", "sequences", "sequences.txt", "-o", "sequences", "--quiet")
            self.run("data", "split", "sequences", "-o", "next", "--how", "leave-one-out")
            return "sequences"
        return self.once("sequences", make)

    SMALL_SASREC = ("--set", "hidden=16", "--set", "inner=32", "--set", "layers=1", "--set", "train.epochs=3", "--seed", "3", "--threads", "1")

    def sasrec(self):
        self.sequences()
        return self.once("sasrec", lambda: self.run("fit", "sasrec", "--data", "next/train", "--valid", "next/valid", "-o", "sasrec", *self.SMALL_SASREC, "--quiet") and "sasrec")


@test
def main_job(b):
    b.model()
    info = b.json("model", "info", "model")
    assert info["method"] == "gamenet" and info["classes"]
    report = b.json("evaluate", "model", "--data", "split/test")
    assert set(report) >= {"metrics", "counts", "config"}
    assert 0 < report["metrics"]["prauc"] <= 1 and 0 <= report["metrics"]["jaccard"] <= 1
    assert report["config"]["threshold"] == 0.3
    answer = b.json("recommend", "model", "--request", ROOT / "examples/demo/request.json", "-k", "5")
    assert len(answer["classes"]) == 5
    probabilities = [c["probability"] for c in answer["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert [e["code"] for e in answer["inputs"]["ignored"]] == ["X-99"]
    assert answer["limits"]
    augmented = b.json("recommend", "model", "--request", ROOT / "examples/demo/request.json", "--augment", "{}")
    assert augmented["augment"]["op"] == "tmask_r" and len(augmented["classes"]) > 5
    assert b.json("evaluate", "model", "--data", "split/test", "--augment", '{"ratio": 0.3}')["config"]["augment"]["ratio"] == 0.3
    plain = b.run("recommend", "model", "--request", ROOT / "examples/demo/request.json", "--explain")
    assert "over threshold" in plain.stdout and "limits:" in plain.stdout


@test
def same_seed_same_weights(b):
    b.model()
    b.run("fit", "gamenet", "--data", "split/train", "--valid", "split/valid", "-o", "again", *b.SMALL, "--quiet")
    assert (b.folder / "model/model.safetensors").read_bytes() == (b.folder / "again/model.safetensors").read_bytes()


@test
def kill_and_resume(b):
    """kill -9 at random points of a fit, then --resume: the weights of an uninterrupted run; never half a model."""
    b.model()
    arguments = [b.binary, "fit", "gamenet", "--data", "split/train", "--valid", "split/valid", "-o", "killed", "--resume", *b.SMALL, "--quiet"]
    started = time.monotonic()
    b.run("fit", "gamenet", "--data", "split/train", "--valid", "split/valid", "-o", "timed", *b.SMALL, "--quiet")
    length = time.monotonic() - started
    draw = random.Random(1)
    for _ in range(10):
        process = subprocess.Popen(arguments, cwd=b.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.2, 1.0) * length)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        assert not (b.folder / "killed").exists() or (b.folder / "killed/config.json").exists(), "half a model"
    if not (b.folder / "killed").exists():
        b.run(*arguments[1:])
    assert (b.folder / "killed/model.safetensors").read_bytes() == (b.folder / "model/model.safetensors").read_bytes()
    assert not (b.folder / "killed.checkpoint").exists()


@test
def interrupt_says_what_is_saved(b):
    b.cohort()
    process = subprocess.Popen([b.binary, "fit", "gamenet", "--data", "split/train", "-o", "interrupted", "--set", "train.epochs=100000", "--set", "encoder.dim=16", "--set", "tree.epochs=1"],
                               cwd=b.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (b.folder / "interrupted.checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130, process.returncode
    assert "interrupted.checkpoint" in error and "--resume" in error, error
    assert not (b.folder / "interrupted").exists()


@test
def every_method_fits_evaluates_and_recommends(b):
    b.cohort()
    methods = [m["name"] for m in b.json("schema")["methods"] if m["dataset"] == "cohort" and m["name"] != "code_tree"]
    assert {"gamenet", "retain", "most_frequent", "nearest_visit", "logistic_regression"} <= set(methods), methods
    for method in methods:
        small = b.SMALL if method in ("gamenet", "retain") else ("--seed", "3")
        b.run("fit", method, "--data", "split/train", "--valid", "split/valid", "-o", f"all-{method}", *small, "--quiet")
        assert b.json("evaluate", f"all-{method}", "--data", "split/test")["metrics"]["prauc"] > 0
        assert b.json("recommend", f"all-{method}", "--request", ROOT / "examples/demo/request.json")["classes"]
        assert b.json("schema", f"method.{method}")["properties"]


@test
def code_tree_is_a_model_too(b):
    b.cohort()
    b.run("fit", "code_tree", "--data", "cohort", "--set", "system=icd10cm", "--set", "dim=16", "--set", "epochs=2", "-o", "tree", "--quiet")
    assert b.json("model", "info", "tree")["method"] == "code_tree"


@test
def reports(b):
    b.model()
    b.run("evaluate", "model", "--data", "split/test", "--report", "report.html", "--set", "bootstrap.rounds=5")
    page = (b.folder / "report.html").read_text()
    assert page.startswith("<!doctype html>") and "prauc" in page and "http" not in page.split("</style>")[1].split("limits")[0]
    b.run("evaluate", "model", "--data", "split/test", "--report", "report.json", "--quiet")
    assert "metrics" in json.loads((b.folder / "report.json").read_text())


@test
def mimic_and_fhir_layouts_agree(b):
    """The generator's two layouts of one cohort read into the same sets."""
    for layout in ("fhir", "mimic-iv"):
        b.run("data", "generate", "cohort", "-o", f"two-{layout}", "--format", layout, "--set", "patients=60", "--seed", "4", "--quiet")
    b.run("data", "import", "fhir", "two-fhir", "-o", "two-a", "--quiet")
    b.run("data", "import", "mimic-iv", "two-mimic-iv/hosp", "-o", "two-b", "--set", "maps.ndc_atc=" + str(b.folder / "two-mimic-iv/ndc_atc.csv"), "--quiet")
    first, second = b.json("data", "info", "two-a"), b.json("data", "info", "two-b")
    for key in ("patients", "visits", "vocabulary", "per_visit"):
        assert first[key] == second[key], (key, first[key], second[key])


@test
def drop_report_adds_up(b):
    b.cohort()
    tables = b.json("data", "info", "cohort")["accounting"]["tables"]
    assert tables
    for name, table in tables.items():
        assert table["read"] == table["kept"] + sum(table["dropped"].values()), name


@test
def sequences_in_and_out(b):
    """Generated text in, counted, divided, and out again as it was."""
    b.sequences()
    info = b.json("data", "info", "sequences")
    assert info["kind"] == "sequences" and info["users"] == 300 and not info["timed"], info
    printed = b.run("data", "import", "sequences", "sequences.txt", "-o", "sequences-again", "--quiet").stdout
    assert f"300 users, {info['items']} items, {info['interactions']} interactions" in printed, printed
    assert b.run("data", "export", "sequences", "--table", "sequences", "--format", "lines").stdout == (b.folder / "sequences.txt").read_text()
    first = json.loads(b.run("data", "export", "sequences").stdout.splitlines()[0])
    assert first["user"] == 1 and len(first["items"]) >= 5, first
    counts = [b.json("data", "info", f"next/{part}")["interactions"] for part in ("train", "valid", "test")]
    assert counts == [info["interactions"] - 600, info["interactions"] - 300, info["interactions"]], counts
    b.run("data", "generate", "sequences", "-o", "sequences.csv", "--format", "csv", "--set", "users=100", "--quiet")
    b.run("data", "import", "sequences", "sequences.csv", "-o", "dated", "--set", "item_core=3", "--quiet")
    parts = b.json("data", "split", "dated", "-o", "dated-split", "--how", "time", "--set", "test=0.2")
    assert set(parts["test"]) == {"path", "users", "items", "interactions"} and parts["test"]["users"] > 0, parts
    table = b.json("data", "info", "dated")["accounting"]["tables"]
    assert table and all(t["read"] == t["kept"] + sum(t["dropped"].values()) for t in table.values()), table


@test
def sequence_errors(b):
    b.sequences()
    b.fails(2, ["times", "leave_one_out"], "data", "split", "sequences", "-o", "x", "--how", "time")
    b.fails(2, ["leave_one_out"], "data", "split", "sequences", "-o", "x", "--how", "patient")
    b.fails(2, ["table"], "data", "export", "sequences", "--table", "patients")
    b.fails(2, ["sequences"], "data", "import", "sequence", "sequences.txt", "-o", "x")
    b.fails(2, ["sequences"], "data", "generate", "sequenzes", "-o", "x")
    (b.folder / "twice.txt").write_text("1 5 6\n1 7 8\n")
    b.fails(1, ["twice.txt", "2"], "data", "import", "sequences", "twice.txt", "-o", "x", "--quiet")


@test
def next_item_main_job(b):
    b.sasrec()
    info = b.json("model", "info", "sasrec")
    assert info["method"] == "sasrec" and info["items"] == b.json("data", "info", "sequences")["items"]
    plain = b.json("evaluate", "sasrec", "--data", "next/test")
    assert plain["counts"]["answers"] == 300 and 0 < plain["metrics"]["hr@10"] <= 1 and plain["config"]["augment"] is None, plain
    (b.folder / "removing.json").write_text('{"op": "tmask_r", "ratio": 0.3}')
    augmented = b.json("evaluate", "sasrec", "--data", "next/test", "--augment", "removing.json")
    assert augmented["config"]["augment"]["ratio"] == 0.3 and augmented["metrics"] != plain["metrics"]
    assert augmented["metrics"] == b.json("evaluate", "sasrec", "--data", "next/test", "--augment", ' {"ratio": 0.3}')["metrics"]
    printed = b.run("evaluate", "sasrec", "--data", "next/test", "--augment", "removing.json", "--report", "next.html", "--quiet").stdout
    assert "tmask_r ratio=0.3" in printed and "hr@10" in printed and "hr@10" in (b.folder / "next.html").read_text(), printed

    history = ("--history", "3 7 12 5 shoe", "-k", "5")
    answer = b.json("recommend", "sasrec", *history)
    assert len(answer["items"]) == 5 and answer["inputs"] == {"used": 4, "ignored": ["shoe"]}, answer
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True) and not {i["id"] for i in answer["items"]} & {3, 7, 12, 5}
    assert b.json("recommend", "sasrec", "-k", "5", stdin='{"history": [3, 7, 12, 5, "shoe"]}') == answer
    assert b.json("recommend", "sasrec", *history, "--augment", "removing.json")["items"] != answer["items"]
    printed = b.run("recommend", "sasrec", *history).stdout
    assert printed.splitlines()[1].split()[0] == str(answer["items"][0]["id"]) and "not known to the model: shoe" in printed, printed
    assert "limits:" in printed and "mean over copies: tmask_r ratio=0.3" in b.run("recommend", "sasrec", *history, "--augment", "removing.json").stdout


@test
def every_sequence_method_fits_evaluates_and_recommends(b):
    b.sequences()
    methods = [m["name"] for m in b.json("schema")["methods"] if m["dataset"] == "sequences"]
    assert {"sasrec", "gru4rec", "popularity", "item_knn"} <= set(methods), methods
    for method in methods:
        small = ("--set", "train.epochs=1") if method in ("sasrec", "gru4rec") else ()
        b.run("fit", method, "--data", "next/train", "--valid", "next/valid", "-o", f"next-{method}", *small, "--seed", "3", "--quiet")
        assert b.json("evaluate", f"next-{method}", "--data", "next/test")["metrics"]["hr@20"] > 0
        assert len(b.json("recommend", f"next-{method}", "--history", "1 2 3")["items"]) == 10
        assert b.json("schema", f"method.{method}")["title"] == method


@test
def tuning(b):
    """Plain prediction is among the candidates; the choice is then evaluated on data that had no part in it."""
    b.sasrec()
    grid = [{"op": "tmask_r", "ratio": 0.2}, {"op": "tmask_r", "ratio": 0.5, "original_weight": 0.5}, {"op": "tmask_r", "ratio": 0.9}]
    (b.folder / "grid.json").write_text(json.dumps(grid))
    tuned = b.json("tune", "sasrec", "--data", "next/valid", "--grid", "grid.json", "--test", "next/test")
    table, best = tuned["validation"]["grid"], tuned["validation"]["best"]["augment"]
    assert [e["augment"] and e["augment"]["ratio"] for e in table] == [None, 0.2, 0.5, 0.9], table
    assert max(table, key=lambda e: e["metrics"]["ndcg@20"])["augment"] == best
    assert tuned["test"]["plain"]["metrics"] == b.json("evaluate", "sasrec", "--data", "next/test")["metrics"]
    options = ("--augment", json.dumps(best)) if best else ()
    assert tuned["test"]["best"]["metrics"] == b.json("evaluate", "sasrec", "--data", "next/test", *options)["metrics"]
    printed = b.run("tune", "sasrec", "--data", "next/valid", "--grid", '[{"op": "crop", "ratio": 0.8}]', "--test", "next/test", "--quiet").stdout
    assert "plain prediction" in printed and "crop ratio=0.8" in printed and "best ndcg@20" in printed and "test data" in printed, printed
    assert len(b.json("tune", "sasrec", "--data", "next/valid", "--set", "select=hr@5")["validation"]["grid"]) > 5
    (b.folder / "plain.json").write_text('{"op": "crop"}')
    b.fails(2, ["--grid", "array"], "tune", "sasrec", "--data", "next/valid", "--grid", "plain.json")
    b.fails(2, ["--data"], "tune", "sasrec")


@test
def augmenting(b):
    copies = b.json("augment", "--history", "1 2 3 4 5 6", "--seed", "7")["copies"]
    assert abs(sum(c["weight"] for c in copies) - 1) < 1e-9 and all(len(c["items"]) == 3 for c in copies), copies
    assert b.json("augment", "--history", "1 2 3 4 5 6", "--seed", "7", "--key", "8")["copies"] != copies
    printed = b.run("augment", "--history", "1 2 3 4", "--augment", '{"op": "window"}', "--set", "window=4").stdout
    assert printed.split() == ["copy", "weight", "1", "2", "3", "4", "1.0000"], printed
    b.fails(2, ["item 2"], "augment", "--history", "1 x 3")
    b.fails(2, ["--history"], "augment")
    b.fails(2, ["ratio"], "augment", "--history", "1 2 3", "--augment", '{"ratoi": 1}')
    b.fails(1, ["nowhere.json"], "augment", "--history", "1 2 3", "--augment", "nowhere.json")
    b.fails(1, ["session"], "augment", "--history", "1 2 3", "--augment", '{"op": "tnoise"}')


@test
def weights_from_elsewhere(b):
    """A model's own weights, imported as if another program had written them: the same answers."""
    b.sasrec()
    shape = ("--set", "hidden=16", "--set", "inner=32", "--set", "layers=1")
    b.run("model", "import", "sasrec", "sasrec/model.safetensors", "--data", "next/train", "-o", "imported", *shape, "--quiet")
    ask = ("--history", "3 7 12", "--json")
    assert json.loads(b.run("recommend", "imported", *ask).stdout)["items"] == json.loads(b.run("recommend", "sasrec", *ask).stdout)["items"]
    b.fails(2, ["exists"], "model", "import", "sasrec", "sasrec/model.safetensors", "--data", "next/train", "-o", "imported")
    b.fails(1, [], "model", "import", "sasrec", "sasrec/model.safetensors", "--data", "next/train", "-o", "x")  # other sizes
    b.fails(1, ["nowhere"], "model", "import", "sasrec", "nowhere.safetensors", "--data", "next/train", "-o", "x")
    b.fails(2, ["--data"], "model", "import", "sasrec", "sasrec/model.safetensors", "-o", "x")
    assert not (b.folder / "x").exists()


@test
def kinds_do_not_mix(b):
    b.model()
    b.sasrec()
    b.fails(2, ["kind cohort"], "fit", "gamenet", "--data", "next/train", "-o", "x", "--quiet")
    b.fails(2, ["kind sequences"], "fit", "sasrec", "--data", "split/train", "-o", "x", "--quiet")
    b.fails(2, ["kind cohort"], "evaluate", "model", "--data", "next/test", "--quiet")
    b.fails(2, ["history"], "recommend", "model", "--history", "1 2 3")
    b.fails(1, ["augmenter, op"], "recommend", "model", "--request", ROOT / "examples/demo/request.json", "--augment", '{"op": "tnoise"}')
    b.fails(1, ["item_cf"], "evaluate", "model", "--data", "split/test", "--augment", '{"op": "substitute", "similar": "cosine"}', "--quiet")
    changed = b.json("evaluate", "model", "--data", "split/test", "--augment", '{"op": "insert", "similar": "item_cf"}')
    assert changed["config"]["augment"]["op"] == "insert"
    b.fails(2, ["tune"], "tune", "model", "--data", "split/valid")
    b.fails(2, ["--history", "--request"], "recommend", "sasrec", "--history", "1", "--request", "-")
    b.fails(2, ["object"], "recommend", "sasrec", stdin="[]")
    b.fails(2, ["whole number"], "recommend", "sasrec", "--history", "1", "-k", "five")


@test
def codes(b):
    assert "-> S72 -> b:S70-S79" in b.run("codes", "ancestors", "icd10cm", "S72.001A").stdout
    assert b.json("codes", "ancestors", "icd9cm", "E812.1")["codes"][0]["ancestors"][0] == "E812"
    b.fails(2, ["system"], "codes", "ancestors", "icd11", "1A00")


@test
def usage_errors(b):
    b.fails(2, ["no command 'evalute'", "evaluate"], "evalute")
    b.fails(2, ["--data"], "evaluate", "model")
    b.fails(2, ["nope"], "fit", "gamenet", "--nope", "1", "-o", "x")
    b.fails(1, ["gamnet", "gamenet"], "fit", "gamnet", "-o", "x")
    b.fails(2, ["encoder.dmi", "encoder.dim"], "fit", "gamenet", "-o", "x", "--set", "encoder.dmi=3")
    b.fails(1, ["nowhere"], "data", "info", "nowhere")
    b.fails(2, ["mimic-iv"], "data", "import", "mimic-v", ".", "-o", "x")
    assert b.run("--help").stdout.count("theriac ") > 10
    assert "--valid" in b.run("fit", "--help").stdout


@test
def overwrite_spares_other_folders(b):
    b.cohort()
    (b.folder / "photos").mkdir()
    (b.folder / "photos/one").write_text("1")
    b.fails(1, ["photos", "config.json"], "fit", "most_frequent", "--data", "split/train", "-o", "photos", "--overwrite", "--quiet")
    b.fails(1, ["photos", "dataset.json"], "data", "import", "fhir", "fhir", "-o", "photos", "--overwrite", "--quiet")
    assert (b.folder / "photos/one").read_text() == "1"


@test
def request_errors(b):
    b.model()
    b.fails(2, ["line 1"], "recommend", "model", "--request", "-", stdin="{\"patient\": ")
    b.fails(2, ["patient.visits[0].diagnosis", "diagnoses"], "recommend", "model", stdin='{"patient": {"visits": [{"diagnosis": []}]}}')
    b.fails(2, ["patient.visits[1].date"], "recommend", "model", stdin='{"patient": {"visits": [{"date": "2020-02-02"}, {"date": "2019-01-01"}]}}')
    b.fails(2, ["patient.visits[0].diagnoses[0].system"], "recommend", "model", stdin='{"patient": {"visits": [{"diagnoses": [{"system": "icd11", "code": "x"}]}]}}')
    deep = '{"patient": ' + "[" * 100000 + "]" * 100000 + "}"
    b.fails(2, ["nest"], "recommend", "model", stdin=deep)


@test
def broken_model_directories(b):
    b.model()
    for name, break_it in {
        "truncated": lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-5]),
        "no-config": lambda d: (d / "config.json").unlink(),
        "other-vocabulary": lambda d: next(d.glob("vocab.diagnoses*")).write_text("icd10cm A00\n"),
        "future": lambda d: (d / "config.json").write_text((d / "config.json").read_text().replace('"format":1', '"format":99').replace('"format": 1', '"format": 99')),
    }.items():
        shutil.copytree(b.folder / "model", b.folder / f"broken-{name}")
        break_it(b.folder / f"broken-{name}")
        b.fails(1, [], "model", "info", f"broken-{name}")


@test
def without_libtorch(b):
    """Data functions work; a model says what is missing and where it was looked for."""
    b.cohort()
    environment = {**os.environ, "THERIAC_ENGINE": str(b.folder / "missing/libtheriac_torch.so")}
    done = subprocess.run([b.binary, "data", "info", "cohort", "--json"], cwd=b.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["patients"] > 0
    done = subprocess.run([b.binary, "model", "info", "model"], cwd=b.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "missing/libtheriac_torch.so" in done.stderr, done.stderr


@test
def refuses_a_second_libtorch(b):
    """A process that already holds another LibTorch is told so, with both paths."""
    compiler = shutil.which("gcc")
    if not compiler:
        raise Skip("no C compiler")
    fake = b.folder / "fake/lib"
    fake.mkdir(parents=True)
    (b.folder / "fake/version.py").write_text("__version__ = '1.0.0'\n")
    subprocess.run([compiler, "-shared", "-x", "c", "-", "-o", fake / "libtorch_cpu.so", "-Wl,-soname,libtorch_cpu.so"], input=b"int theriac_fake;\n", check=True)
    b.model()
    # AddressSanitizer wants to be loaded first; that it is not is what this is about.
    sanitizer = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))
    environment = {**os.environ, "LD_PRELOAD": str(fake / "libtorch_cpu.so"), "ASAN_OPTIONS": sanitizer}
    done = subprocess.run([b.binary, "model", "info", "model"], cwd=b.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "1.0.0" in done.stderr and str(fake) in done.stderr, done.stderr


@test
def library_is_quiet(b):
    """No signal handler of ours, nothing on stdout or stderr, in a host that recommends (plain C example)."""
    b.model()
    strace = shutil.which("strace")
    if not strace:
        raise Skip("no strace")
    example = b.examples / "example_c_recommend_codes"
    done = subprocess.run([strace, "-f", "-e", "trace=rt_sigaction,rt_sigprocmask,write", example, "model"], cwd=b.folder, capture_output=True, text=True)
    if "sanitizer" in done.stderr.lower() or done.returncode != 0:
        raise Skip("strace can not follow this build here")
    handlers = [l for l in done.stderr.splitlines() if "rt_sigaction(" in l and "sa_handler=0x" in l and "SIGRT_" not in l]  # SIGRT_1 is the C library's own
    assert not handlers, handlers[:3]
    assert not [l for l in done.stderr.splitlines() if "write(2," in l], "wrote to stderr"


@test
def examples_run(b):
    b.model()
    request = ROOT / "examples/demo/request.json"
    done = subprocess.run([b.examples / "example_c_recommend", "model", request], cwd=b.folder, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["classes"], done.stderr
    done = subprocess.run([b.examples / "example_c_recommend_codes", "model"], cwd=b.folder, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 11, done.stderr
    b.sasrec()
    done = subprocess.run([b.examples / "example_c_next_item", "sasrec", "3", "7", "12", "999"], cwd=b.folder, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 24 and "1 of 4 items are unknown" in done.stdout, done.stdout + done.stderr
    (b.folder / "example").mkdir()
    done = subprocess.run([b.examples / "example_cpp_train_and_evaluate", "example"], cwd=b.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([b.examples / "example_c_merge", "merge-example"], cwd=b.folder, capture_output=True, text=True)
    assert done.returncode == 0 and "0.3333" in done.stdout, done.stdout + done.stderr
    done = subprocess.run([b.examples / "example_c_recommend", "nowhere", request], cwd=b.folder, capture_output=True, text=True)
    assert done.returncode == 1 and "nowhere" in done.stderr


def clinical(path):
    if not (CLINICAL / path).exists():
        raise Skip(f"{path} is not in the data folder")
    return CLINICAL / path


def write_safetensors(path, tensors):
    """tensors: name -> (shape, list of float32 values)"""
    header, body = {}, b""
    for name, (shape, values) in sorted(tensors.items()):
        data = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def read_safetensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        out[name] = struct.unpack(f"<{(end - begin) // 4}f", data[8 + size + begin:8 + size + end])
    return out


# A base of ones and three fine-tuned models.
SIX = {"base": [1, 1, 1, 1, 1, 1], "one": [1.9, 0.8, 1, 1.5, 0.4, 1.1], "two": [0.6, 1.3, 1, 1.5, 1.2, 0.2], "three": [1.1, 0.3, 1, 0.5, 1.3, 1.4]}


@test
def merge_makes_a_model_of_three(b):
    for name, row in SIX.items():
        write_safetensors(b.folder / "merge" / name / "model.safetensors", {"model.layers.0.w.weight": ([2, 3], row)})
        (b.folder / "merge" / name / "config.json").write_text('{"num_hidden_layers": 1, "note": "kept"}')
    recipe = b.folder / "merge" / "ties.yml"
    recipe.write_text("merge_method: ties\nbase_model: merge/base\nmodels:\n"
                      + "".join(f"  - model: merge/{m}\n    parameters: {{weight: 1, density: 0.5}}\n" for m in ("one", "two", "three")))
    plan = b.json("merge", "plan", recipe)
    assert plan, plan
    b.run("merge", recipe, "merge/out", "--quiet")
    merged = read_safetensors(b.folder / "merge/out/model.safetensors")["model.layers.0.w.weight"]
    assert all(abs(x - y) < 1e-6 for x, y in zip(merged, [1.9, 0.3, 1, 1.5, 0.4, 0.2])), merged
    assert json.loads((b.folder / "merge/out/config.json").read_text())["note"] == "kept"
    assert (b.folder / "merge/out/mergekit_config.yml").read_text() == recipe.read_text()
    b.fails(1, ["exists"], "merge", recipe, "merge/out", "--quiet")
    recipe.write_text(recipe.read_text().replace("merge_method: ties", "merge_method: tie"))
    b.fails(2, ["ties"], "merge", recipe, "merge/other", "--quiet")
    assert not (b.folder / "merge/other").exists()


@test
def merge_takes_every_option_of_mergekit(b):
    for name, row in {"one": [1, 2], "two": [3, 6]}.items():
        write_safetensors(b.folder / "options" / name / "model.safetensors", {"model.layers.0.w.weight": ([2], row)})
        (b.folder / "options" / name / "tokenizer.json").write_text("{}")
    recipe = b.folder / "options" / "mean.yml"
    recipe.write_text("merge_method: linear\nmodels: [{model: options/one}, {model: options/two}]\nparameters: {weight: 1}\n")
    with_values = {"transformers-cache": "cache", "lora-merge-cache": "cache", "lora-merge-dtype": "torch.float32", "device": "cuda",
                   "out-shard-size": "5B", "random-seed": "3", "num-threads": "1", "write-threads": "2", "io-threads": "1"}
    flags = ["allow-crimes", "cuda", "low-cpu-memory", "clone-tensors", "trust-remote-code", "lazy-unpickle", "safe-serialization", "read-to-gpu",
             "multi-gpu", "gpu-rich", "async-write", "write-model-card", "copy-tokenizer"]
    words = [word for name, value in with_values.items() for word in (f"--{name}", value)]
    done = b.run("merge", recipe, "options/out", "-v", "--verify", *words, *(f"--{flag}" for flag in flags))
    notes = [line for line in done.stderr.splitlines() if "note: --" in line]
    ignored = {"lora-merge-cache", "device", "write-threads", "cuda", "low-cpu-memory", "clone-tensors", "trust-remote-code", "lazy-unpickle",
               "read-to-gpu", "multi-gpu", "gpu-rich", "async-write"}
    assert {line.split("note: --")[1].split()[0] for line in notes} == ignored and len(notes) == len(ignored), done.stderr
    assert read_safetensors(b.folder / "options/out/model.safetensors")["model.layers.0.w.weight"] == (2.0, 4.0)
    b.run("merge", recipe, "options/bare", "--quiet", *(f"--no-{flag}" for flag in flags))
    assert not (b.folder / "options/bare/README.md").exists() and not (b.folder / "options/bare/tokenizer.json").exists()
    assert (b.folder / "options/out/README.md").exists() and (b.folder / "options/out/tokenizer.json").exists()


@test
def merge_resumes_by_the_outputs_name(b):
    write_safetensors(b.folder / "resume" / "model" / "model.safetensors", {"model.layers.0.w.weight": ([2], [1, 1e6])})
    recipe = b.folder / "resume" / "r.yml"
    recipe.write_text("merge_method: linear\nmodels: [{model: resume/model, parameters: {weight: 1}}]\nout_dtype: float16\n")
    b.fails(1, ["no stopped merge"], "merge", "resume", "resume/out", "--quiet")
    b.fails(1, ["NaN or infinite", "resume"], "merge", recipe, "resume/out", "--quiet")
    recipe_elsewhere = recipe.rename(b.folder / "resume" / "moved.yml")
    b.fails(1, ["NaN or infinite"], "merge", "resume", "resume/out", "--quiet")
    assert not (b.folder / "resume/out").exists()
    b.run("merge", "resume", recipe_elsewhere, "resume/out", "--quiet", "--set", "allow_non_finite=true")
    assert (b.folder / "resume/out/model.safetensors").exists() and not list((b.folder / "resume").glob(".out*"))


@test
def inspect_compares_fine_tuned_models(b):
    for name, row in SIX.items():
        write_safetensors(b.folder / "inspect" / name / "model.safetensors", {"model.layers.0.w.weight": ([2, 3], row)})
    report = b.json("merge", "inspect", "inspect/one", "inspect/two", "inspect/three", "--base", "inspect/base", "--report", "inspect/page.html")
    cosine = report["global"]["cosine"]
    assert abs(cosine[0][1] + 0.280933) < 1e-6 and abs(cosine[1][2] + 0.699637) < 1e-6, cosine
    assert "<svg" in (b.folder / "inspect/page.html").read_text()
    table = b.run("merge", "inspect", "inspect/one", "inspect/two", "--base", "inspect/base", "--quiet").stdout
    assert "-0.2809" in table and "model.layers.0" in table, table
    b.fails(2, ["--base"], "merge", "inspect", "inspect/one")
    b.fails(1, ["nowhere"], "merge", "inspect", "nowhere", "--base", "inspect/base")


@test
def search_and_soup_ask_a_command(b):
    for name, row in SIX.items():
        write_safetensors(b.folder / "search" / name / "model.safetensors", {"model.layers.0.w.weight": ([2, 3], row)})
    judge = b.folder / "search" / "judge.py"
    judge.write_text("import struct, sys\ndata = open(sys.argv[1] + '/model.safetensors', 'rb').read()\n"
                     "n = struct.unpack('<Q', data[:8])[0]\nw = struct.unpack('<6f', data[8 + n:])\n"
                     "print('distance')\nprint(abs(w[0] - 1.45) + abs(w[5] - 0.8))\n")
    recipe = b.folder / "search" / "recipe.yml"
    recipe.write_text("merge_method: task_arithmetic\nbase_model: search/base\nmodels:\n"
                      "  - {model: search/one, parameters: {weight: 0.1}}  # kept\n  - {model: search/two, parameters: {weight: 0.1}}\n")
    evaluate = f"{sys.executable} {judge} {{model}}"
    report = b.json("merge", "search", recipe, "search/out", "--vary", "models[*].parameters.weight=0:1", "--evaluate", evaluate,
                    "--evaluations", "40", "--minimize", "--seed", "1")
    assert report["best"]["score"] < report["evaluations"][0]["score"] / 4, report["best"]
    assert len(report["evaluations"]) == 40 and "# kept" in (b.folder / "search/out/mergekit_config.yml").read_text()
    report = b.json("merge", "soup", "search/one", "search/two", "search/three", "-o", "search/soup", "--evaluate", evaluate, "--minimize")
    assert report["best"]["score"] <= min(e["score"] for e in report["evaluations"][:3]), report
    b.fails(2, ["{model}"], "merge", "soup", "search/one", "-o", "search/x", "--evaluate", "echo 1")
    b.fails(1, ["status 3"], "merge", "soup", "search/one", "-o", "search/x", "--evaluate", "exit 3 # {model}", "--quiet")
    b.fails(1, ["no number"], "merge", "soup", "search/one", "-o", "search/x", "--evaluate", "echo {model}", "--quiet")
    assert not (b.folder / "search/x").exists()


# medication.md 12.6: cohort, policy, fixture, patients, visits, dx, px, ATC3, medications a visit, unmapped rows, ground-truth DDI,
# Nearest Jaccard and F1.
GOLDEN = [
    ("mimic-iii", "mimic-iii-demo", "first", "mimic-iii-demo.single", 11, 36, 227, 57, 86, "19.889", 1682, "0.0790", "0.4648", "0.6170"),
    ("mimic-iii", "mimic-iii-demo", "all", None, 11, 36, 227, 57, 118, "36.389", 1682, "0.0691", "0.5237", "0.6722"),
    ("mimic-iv", "mimic-iv-demo/hosp", "first", "mimic-iv-demo.single", 38, 132, 994, 257, 100, "18.295", 2772, "0.0662", "0.4604", "0.6140"),
    ("mimic-iv", "mimic-iv-demo/hosp", "all", "mimic-iv-demo.multi", 38, 132, 994, 257, 136, "33.568", 2772, "0.0617", "0.4570", "0.6097"),
    ("fhir", "fhir-mimic-iv-demo", "first", "mimic-iv-demo.single", 38, 132, 994, 257, 100, "18.295", None, "0.0662", "0.4604", "0.6140"),
    ("fhir", "fhir-mimic-iv-demo", "all", "mimic-iv-demo.multi", 38, 132, 994, 257, 136, "33.568", None, "0.0617", "0.4570", "0.6097"),
]


def golden_case(row):
    form, path, policy, fixture, patients, visits, dx, px, atc3, meds, unmapped, ddi, jaccard, f1 = row

    def run(b):
        source = clinical(path)
        name = f"golden-{form}-{policy}"
        maps = {"ndc_rxcui": "rxnorm/ndc_rxcui.csv", "rxcui_atc": "nc-restricted/rxcui_atc.csv", "ndc_atc": "nc-restricted/ndc_atc.csv"}
        settings = [part for key, file in maps.items() for part in ("--set", f"maps.{key}={clinical(file)}")]
        info = b.json("data", "import", form, source, "-o", name, "--set", f"med_map={policy}", *settings)
        assert (info["patients"], info["visits"]) == (patients, visits)
        assert [info["vocabulary"][k] for k in ("diagnoses", "procedures", "medications")] == [dx, px, atc3]
        assert f"{info['per_visit']['medications']['mean']:.3f}" == meds
        for table in info["accounting"]["tables"].values():
            assert table["read"] == table["kept"] + sum(table["dropped"].values())
        if unmapped is not None:
            assert info["accounting"]["unmapped"]["ndc"]["rows"] == unmapped, info["accounting"]["unmapped"]["ndc"]["rows"]
        if fixture:
            text = b.run("data", "export", name, "--table", "patients", "--format", "jsonl").stdout
            golden = gzip.open(clinical(f"fixtures/{fixture}.jsonl.gz"), "rt").read()
            assert text == golden, "the exported patients differ from the golden file"
        b.run("fit", "nearest_visit", "--data", name, "-o", f"{name}-model", "--set", f"interactions={clinical('ddi/ddi_atc3_pairs.csv')}", "--quiet")
        report = b.json("evaluate", f"{name}-model", "--data", name, "--set", "aggregation=per_patient", "--set", "skip_first=true")
        assert f"{report['metrics']['jaccard']:.4f}" == jaccard and f"{report['metrics']['f1']:.4f}" == f1, report["metrics"]
        every_visit = b.json("evaluate", f"{name}-model", "--data", name)["ground_truth"]
        assert f"{every_visit['ddi_rate']:.4f}" == ddi, every_visit
    run.__name__ = f"golden_{form.replace('-', '_')}_{policy}"
    return run


for golden_row in GOLDEN:
    test(golden_case(golden_row))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--examples", required=True, type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="theriac-command-test-") as folder:
        bench = Bench(str(pathlib.Path(arguments.bin).resolve()), arguments.examples.resolve(), pathlib.Path(folder))
        return run_cases(bench, arguments.names)


if __name__ == "__main__":
    sys.exit(main())
