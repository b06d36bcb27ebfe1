#!/usr/bin/env python3
"""SASRec at inference: Theriac beside a padded, batched PyTorch run without gradients, same weights, same users, in turns.

    bench/peers/torch-sasrec/make_environment.sh ENV
    ENV/bin/python bench/peers/torch-sasrec/compare.py --bench build/bench/bench/next_item_bench \\
        --weights SASRec-Beauty.safetensors --sequences Beauty.txt [--rounds 5] [--threads 1 2]

Both rank every user's last item among all items, from the items before it, with the user's own items left out. Prints seconds as medians,
their ratio, and the hit ratios of both, which must agree.
"""
import argparse
import json
import math
import statistics
import subprocess
import time

import torch
from safetensors.torch import load_file

LENGTH, HEADS = 50, 2


def read(path):
    """Histories and answers of the text format, one user a line."""
    users = [[int(item) for item in line.split()[1:]] for line in open(path, encoding="utf-8")]
    return [user[:-1] for user in users], [user[-1] for user in users]


def norm(x, weights, name):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"], 1e-12)


def linear(x, weights, name):
    return torch.nn.functional.linear(x, weights[name + ".weight"], weights[name + ".bias"])


def user_vectors(weights, ids):
    """[batch, length] of ids, left-padded with 0 -> [batch, hidden]."""
    batch, length = ids.shape
    x = weights["item_embeddings.weight"][ids] + weights["position_embeddings.weight"]
    x = norm(x, weights, "LayerNorm")
    causal = torch.ones(length, length).tril()
    mask = (1 - (ids > 0).float()[:, None, None, :] * causal) * -10000.0
    layer = 0
    while f"item_encoder.layer.{layer}.attention.query.weight" in weights:
        name = f"item_encoder.layer.{layer}."
        q, k, v = (linear(x, weights, name + "attention." + part).view(batch, length, HEADS, -1).transpose(1, 2)
                   for part in ("query", "key", "value"))
        probabilities = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + mask, -1)
        context = (probabilities @ v).transpose(1, 2).reshape(batch, length, -1)
        h = norm(linear(context, weights, name + "attention.dense") + x, weights, name + "attention.LayerNorm")
        f = linear(torch.nn.functional.gelu(linear(h, weights, name + "intermediate.dense_1")), weights, name + "intermediate.dense_2")
        x = norm(f + h, weights, name + "intermediate.LayerNorm")
        layer += 1
    return x[:, -1]


def hit_ratio(weights, histories, answers, batch_size, k=10):
    """One whole evaluation."""
    items, hits = weights["item_embeddings.weight"], 0
    for first in range(0, len(histories), batch_size):
        some = histories[first:first + batch_size]
        ids = torch.zeros(len(some), LENGTH, dtype=torch.long)
        for row, history in enumerate(some):
            kept = history[-LENGTH:]
            ids[row, LENGTH - len(kept):] = torch.tensor(kept)
        scores = user_vectors(weights, ids) @ items.T
        rows = torch.tensor([row for row, history in enumerate(some) for _ in history])
        scores[rows, torch.tensor([item for history in some for item in history])] = -math.inf
        scores[:, 0] = scores[:, -1] = -math.inf
        best = torch.topk(scores, 20).indices[:, :k]
        hits += (best == torch.tensor(answers[first:first + batch_size])[:, None]).any(1).sum().item()
    return hits / len(histories)


def ours(bench, weights, sequences, threads):
    done = subprocess.run([bench, "--weights", weights, "--sequences", sequences, "--threads", str(threads), "--json"],
                          check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--sequences", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    weights = {name: tensor.float() for name, tensor in load_file(arguments.weights).items()}
    histories, answers = read(arguments.sequences)
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        theirs, own = [], []
        quality = 0.0
        with torch.inference_mode():
            for _ in range(arguments.rounds):
                report = ours(arguments.bench, arguments.weights, arguments.sequences, threads)
                own.append(report)
                start = time.perf_counter()
                quality = hit_ratio(weights, histories, answers, arguments.batch)
                theirs.append(time.perf_counter() - start)
        plain = statistics.median(r["plain_s"] for r in own)
        augmented = statistics.median(r["augmented_s"] for r in own)
        peer = statistics.median(theirs)
        report = own[-1]
        print(f"{threads} thread(s), {len(histories)} users, medians of {arguments.rounds}")
        print(f"  PyTorch {torch.__version__}, padded to {LENGTH}, batches of {arguments.batch}: {peer:.2f} s, HR@10 {quality:.4f}")
        print(f"  Theriac, plain: {plain:.3f} s, HR@10 {report['plain_hr@10']:.4f}: {peer / plain:.1f} x as fast")
        print(f"  Theriac, TMask-R .5, 10 copies: {augmented:.3f} s, HR@10 {report['augmented_hr@10']:.4f}: "
              f"{augmented / plain:.2f} x plain prediction")
        print(f"  floor of scoring, 2 U V d flops at {report['gflops']:.0f} GFlop/s: {report['floor_s']:.3f} s; plain / floor "
              f"{plain / report['floor_s']:.2f}")


if __name__ == "__main__":
    main()
