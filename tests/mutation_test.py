#!/usr/bin/env python3
"""Breaks one line at a time and expects the tests to notice: a test that can not fail proves nothing.

    tests/mutation_test.py --build build/release [NAME ...]

Edits the working tree in place, builds the one test program, runs it, and puts the file back. Not a part of CI: each line costs a
build. NAME keeps the mutations whose file or program contains it. Ends with "N passed, N failed"; a mutation that survives, or whose
line is gone, is a failure.
"""
import argparse
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Program, file, the line's part, what it becomes.
MUTATIONS = [
    ("base_test", "cpp/core/base/file_operations.cpp", "if (fs::exists(target / marker, ignored)) return;", "if (!fs::exists(target / marker, ignored)) return;"),
    ("metrics_test", "cpp/core/metrics/multilabel.cpp", "labels[i + 1].score == labels[i].score;", "false;"),
    ("metrics_test", "cpp/core/metrics/multilabel.cpp", "aggregation_ == Aggregation::kPerPatient ?", "aggregation_ != Aggregation::kPerPatient ?"),
    ("data_test", "cpp/core/data/cohort_policy_apply.cpp", "if (visits >= policy_.min_visits)", "if (visits > policy_.min_visits)"),
    ("data_test", "cpp/core/data/split.cpp", "i % options.folds == options.fold", "i % options.folds != options.fold"),
    ("data_test", "cpp/core/data/column_file.cpp", "if (hash64_hex(entry.bytes) != entry.hash)", "if (false)"),
    ("codes_test", "cpp/core/codes/ndc.cpp", "if (text.size() == 11)", "if (text.size() >= 10)"),
    ("readers_test", "cpp/core/readers/fhir_import.cpp", 'if (resource.verification == "entered-in-error")', "if (false)"),
    ("readers_test", "cpp/core/readers/mimic.cpp", 'policy_.med_window == "first_day";', "false;"),
    ("generate_test", "cpp/core/generate/patient.cpp", "if (!suits(table, patient_.female) ||", "if ("),
    ("merge_test", "cpp/core/merge/methods/loops.cpp", "(mask_of(sum < 0) |", "(mask_of(sum <= 0) |"),
    ("merge_test", "cpp/core/merge/methods/loops.cpp", "mask_of(!(std::bit_cast<float>(bits ^ elected[l]) <= 0))", "mask_of(std::bit_cast<float>(bits ^ elected[l]) > 0)"),
    ("merge_test", "cpp/core/merge/methods/loops.cpp", "if_kept(y, upper)", "if_kept(y, hn::Or(upper, lower))"),
    ("merge_test", "cpp/core/merge/methods/loops.cpp", "bits + first / 8, count, all, kept);", "bits, count, all, kept);"),
    ("merge_test", "cpp/core/merge/methods/sparsify.cpp", "((threshold >> 32) - 1)", "(threshold >> 32)"),
    ("merge_test", "cpp/core/merge/executor.cpp", "active.partials[piece.first / work.piece] =", "active.partials[unit.block] ="),
    ("merge_test", "cpp/core/merge/executor.cpp", "buffers_.out + first * bytes_each", "buffers_.out + 0 * first * bytes_each"),
    ("merge_test", "cpp/core/merge/executor.cpp", "work.block = work.block / work.piece * work.piece;", ""),
    ("merge_test", "cpp/core/merge/background_sync.cpp", "if (!failure_) failure_ = failure;", "failure_ = failure;"),
    ("merge_test", "cpp/core/merge/merge.cpp", "entry.tensor, output) == entry.checksum", "entry.tensor, output) != std::string()"),
    ("merge_test", "cpp/core/merge/cmaes.cpp", "out.parents = out.population / 2;", "out.parents = out.population / 3;"),
    ("merge_test", "cpp/core/merge/inspect.cpp", "if (ties_left_ == 0) return false;", ""),
    ("merge_test", "cpp/core/merge/inspect.cpp", "counting_ = first >= counted_;", "counting_ = true;"),
    ("merge_test", "cpp/core/merge/inspect_spectra.cpp", "gram.diagonal().array() -= 1;", ""),
    ("merge_test", "cpp/core/merge/merger.cpp", "if (now == model.fingerprint) return;", "return;"),
    ("merge_test", "cpp/core/merge/search.cpp", "!trials_.better(score, found);", "trials_.better(found, score);"),
    ("merge_test", "cpp/core/merge/search.cpp", "if (number < folder_.scores().size())", "if (false)"),
    ("merge_test", "cpp/core/merge/search.cpp", 'if (state["identity"] != identity_)', "if (false)"),
    ("tensorfile_test", "cpp/core/tensorfile/pickle_machine.cpp", "if (slot > puts_ + kSlack)", "if (slot > memo_.size() + kSlack)"),
    ("engine_test", "cpp/engine/nn/dense_kernels.cpp", "hn::StoreU(hn::Mul(dn, r), d, y[5]);", "hn::StoreU(dn, d, y[5]);"),
    ("engine_test", "cpp/engine/nn/matrix_product.cpp", "k == 0 ? Sum::kReplace : Sum::kAdd", "Sum::kReplace"),
    ("engine_test", "cpp/engine/clinical/tree_pretraining_sage.cpp", "std::fill_n(g + own * dim_, (end - begin - own) * dim_, 0.0F);", ""),
    ("base_test", "cpp/core/base/file_operations.cpp", "::flock(fd.get(), LOCK_EX | LOCK_NB) == 0", "true"),
    ("engine_test", "cpp/engine/nn/gru.cpp", "reading == Reading::kForward ? step : length(row) - 1 - step", "step"),
    ("engine_test", "cpp/engine/train/optimizer.cpp", "rate, decay, /*decoupled=*/true", "rate, decay, /*decoupled=*/false"),
    ("engine_test", "cpp/engine/train/fit_loop.cpp", ">= options_.patience", "> options_.patience"),
    ("engine_test", "cpp/engine/clinical/backbone.cpp", "nn::valid_steps(lengths - 1,", "nn::valid_steps(lengths,"),
    ("engine_test", "cpp/engine/clinical/session.cpp", "if (i != left_out)", "if (true)"),
    ("engine_test", "cpp/engine/clinical/request.cpp", "if (time < last)", "if (false)"),
    ("engine_test", "cpp/engine/nn/dense_kernels.cpp", "hn::Gt(hn::LoadU(d, y + i), hn::Zero(d))", "hn::Ge(hn::LoadU(d, y + i), hn::Zero(d))"),
    ("engine_test", "cpp/engine/clinical/position_encoding.cpp", "place < 0 ? kNoFeature : offsets_[slot] + place", "place < 0 ? kNoFeature : place"),
]


def build(folder, target):
    return subprocess.run(["cmake", "--build", folder, "--target", target], capture_output=True, text=True)


def caught(folder, program, path, old, new):
    """None when the tests notice; else what went wrong."""
    text = path.read_text()
    if text.count(old) < 1:
        return "the line is gone"
    try:
        path.write_text(text.replace(old, new, 1))
        done = build(folder, program)
        if done.returncode:
            return "does not compile: " + done.stdout[-300:]
        try:
            run = subprocess.run([folder / "tests" / program, "--gtest_brief=1"], cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=900)
        except subprocess.TimeoutExpired:
            return None
        return None if run.returncode else "survived"
    finally:
        path.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    folder = arguments.build.resolve()
    passed = failed = 0
    programs = set()
    for program, file, old, new in MUTATIONS:
        if arguments.names and not any(n in file or n in program for n in arguments.names):
            continue
        programs.add(program)
        problem = caught(folder, program, ROOT / file, old, new)
        print(f"{'FAIL' if problem else 'ok  '} {file}: {old}{' -- ' + problem if problem else ''}", flush=True)
        passed, failed = passed + (not problem), failed + bool(problem)
    for program in programs:
        build(folder, program)  # from the sources as they are
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
