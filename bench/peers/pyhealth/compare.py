#!/usr/bin/env python3
"""PyHealth 1.1.6 beside Theriac: one training epoch and one-patient inference of GAMENet and RETAIN, on the same cohort, in the
same run, by turns, one thread each. Prints medians (of epochs, and of single calls), 99th percentiles and ratios.

    bench/peers/pyhealth/make_environment.sh ENV
    ENV/bin/python bench/peers/pyhealth/compare.py --theriac build/bench/bin/theriac --bench build/bench/bench/recommend_bench --work build/peers
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
EPOCHS = 9  # the first one warms up; medians of the others are compared


def theriac(arguments, *words):
    done = subprocess.run([arguments.theriac, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"theriac {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


def samples_of(text):
    """PyHealth's per-visit samples from the exported patients: the whole prefix, medications of the target visit removed."""
    samples = []
    for line in text.splitlines():
        patient = json.loads(line)
        visits = patient["visits"]
        for t, visit in enumerate(visits):
            samples.append({
                "visit_id": visit["id"], "patient_id": patient["patient"],
                "conditions": [[c for _, c in v["dx"]] for v in visits[:t + 1]],
                "procedures": [[c for _, c in v["px"]] for v in visits[:t + 1]],
                "drugs_hist": [v["atc3"] for v in visits[:t]] + [[]],
                "drugs": visit["atc3"],
            })
    return samples


def peer_model(name, dataset):
    import torch
    from pyhealth.models import GAMENet, RETAIN

    class LocalGAMENet(GAMENet):
        # The constructor asks the network for code tables; the cohort has no interaction table, so an empty matrix serves.
        def generate_ddi_adj(self):
            size = self.label_tokenizer.get_vocabulary_size()
            return torch.zeros(size, size)

    if name == "gamenet":
        return LocalGAMENet(dataset, embedding_dim=128, hidden_dim=128)
    return RETAIN(dataset, feature_keys=["conditions", "procedures"], label_key="drugs", mode="multilabel", embedding_dim=128)


def time_peer(name, dataset, calls):
    import torch
    from pyhealth.datasets import get_dataloader
    torch.set_num_threads(1)
    model = peer_model(name, dataset)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = get_dataloader(dataset, batch_size=32, shuffle=True)
    epochs = []
    for _ in range(EPOCHS):
        model.train()
        start = time.perf_counter()
        for batch in loader:
            loss = model(**batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epochs.append(time.perf_counter() - start)
    model.eval()
    sample = next(dataset[i] for i in range(len(dataset)) if len(dataset[i]["conditions"]) == 3)
    single = {key: [value] for key, value in sample.items()}
    times = []
    with torch.no_grad():
        for i in range(calls + 100):
            start = time.perf_counter()
            model(**single)
            if i >= 100:
                times.append((time.perf_counter() - start) * 1e6)
    times.sort()
    return statistics.median(epochs[1:]), statistics.median(times), times[int(0.99 * (len(times) - 1))]


def time_ours(arguments, name, data):
    """Median seconds of an epoch but the first, as the fit reports them; microseconds of one patient from recommend_bench."""
    model = arguments.work / name
    words = ["fit", name, "--data", data, "-o", model, "--overwrite", "--threads", "1", "--seed", "1", "--set", "encoder.use_relation=false",
             "--set", "encoder.use_position=false", "--set", "encoder.use_id=true", "--set", f"train.epochs={EPOCHS}"]
    done = subprocess.run([arguments.theriac, *map(str, words)], capture_output=True, text=True, check=True)
    epochs = [float(seconds) for seconds in re.findall(r"^epoch .* seconds ([\d.]+)$", done.stderr, re.MULTILINE)]
    line = subprocess.run([arguments.bench, str(model), "--benchmark_filter=none"], capture_output=True, text=True).stdout
    found = re.search(r"C ABI median ([\d.]+) us, p99 ([\d.]+) us", line)
    return statistics.median(epochs[1:]), float(found.group(1)), float(found.group(2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theriac", required=True)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5, help="of each program, by turns; medians of them and of their ratios")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    # recommend_bench also goes around the ABI, so it must find the engine by itself.
    os.environ["THERIAC_ENGINE"] = str(pathlib.Path(arguments.theriac).resolve().parents[1] / "lib/libtheriac_torch.so")
    records, data = arguments.work / "records", arguments.work / "cohort"
    if not data.exists():
        theriac(arguments, "data", "generate", "cohort", "-o", records, "--set", f"patients={arguments.patients}", "--seed", "9", "--quiet")
        theriac(arguments, "data", "import", "fhir", records, "-o", data, "--quiet")
    samples = samples_of(theriac(arguments, "data", "export", data, "--table", "patients", "--format", "jsonl"))

    from pyhealth.datasets import SampleEHRDataset
    dataset = SampleEHRDataset(samples=samples, dataset_name="cohort", task_name="drug_recommendation")
    print(f"{arguments.patients} generated patients, {len(samples)} samples, d = 128, batch 32, one thread")
    print(f"{'model':<10}{'epoch s, PyHealth':>18}{'ours':>9}{'ratio':>8}{'one patient us, PyHealth (p99)':>34}{'ours (p99)':>20}{'ratio':>8}")
    for name in ("gamenet", "retain"):
        # By turns: the machine's own speed changes from minute to minute.
        rounds = [(time_peer(name, dataset, arguments.calls), time_ours(arguments, name, data)) for _ in range(arguments.rounds)]
        (peer_epoch, peer_median, peer_p99), (our_epoch, our_median, our_p99) = (
            [statistics.median(column) for column in zip(*side)] for side in zip(*rounds))
        epochs, patients = (statistics.median(peer[i] / ours[i] for peer, ours in rounds) for i in (0, 1))
        print(f"{name:<10}{peer_epoch:>18.2f}{our_epoch:>9.2f}{epochs:>8.1f}{f'{peer_median:.0f} ({peer_p99:.0f})':>34}"
              f"{f'{our_median:.1f} ({our_p99:.1f})':>20}{patients:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
