#!/usr/bin/env python3
"""Merges that are stopped: killed, interrupted, without room, with inputs that fail. Whatever happened, nothing looks finished before it
is, and --resume ends in the bytes of an uninterrupted run.

    tests/cli/merge_stops_test.py --bin build/dev/bin/theriac [NAME ...]

Ends with "N passed, N failed, N skipped".
"""
import argparse
import array
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

KILLS = 50


def write_model(folder, tensors):
    header, body = {}, bytearray()
    for name, (shape, data) in sorted(tensors.items()):
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    (folder / "config.json").write_text('{"num_hidden_layers": 6}')
    (folder / "tokenizer.json").write_text("x" * 300000)


def normal(generator, count, scale):
    values = [scale * generator.gauss(0, 1) for _ in range(4096)]  # repeated, because drawing in Python is slow
    return array.array("f", (values * (count // 4096 + 1))[:count])


class Bench:
    """A recipe of three models, the bytes of an uninterrupted run, and how long that takes."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        generator = random.Random(5)
        shapes = {"model.embed_tokens.weight": [500, 128], "model.norm.weight": [128]}
        for layer in range(6):
            shapes |= {f"model.layers.{layer}.a.weight": [256, 128], f"model.layers.{layer}.b.weight": [128, 300]}
        base = {name: normal(generator, shape[0] * (shape[1] if len(shape) > 1 else 1), 0.02) for name, shape in shapes.items()}
        for model in ("base", "one", "two", "three"):
            moved = {}
            for name, values in base.items():
                step = normal(generator, len(values), 0.001)
                moved[name] = (shapes[name], array.array("f", (v + d for v, d in zip(values, step))).tobytes())
            write_model(folder / model, moved)
        (folder / "ties.yml").write_text(
            "merge_method: dare_ties\nbase_model: base\nmodels:\n"
            + "".join(f"  - {{model: {m}, parameters: {{weight: 0.4, density: 0.5}}}}\n" for m in ("one", "two", "three")))
        self.words = ["merge", "ties.yml", "out", "--quiet", "--threads", "2", "--out-shard-size", "1M"]
        started = time.monotonic()
        self.run(*self.words)
        self.length = time.monotonic() - started
        self.expected = self.files()
        assert len([name for name in self.expected if name.endswith(".safetensors")]) > 1
        self.clear()

    def files(self):
        """What a program would load; the card may tell that tensors were made again."""
        return {p.name: p.read_bytes() for p in (self.folder / "out").iterdir() if p.name != "README.md"}

    def staging(self):
        return self.folder / ".out.merging"

    def clear(self):
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        shutil.rmtree(self.staging(), ignore_errors=True)

    def start(self, *words, **keywords):
        return subprocess.Popen([self.binary, *words], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **keywords)

    def run(self, *words, status=0, prefix=(), **keywords):
        done = subprocess.run([*prefix, self.binary, *words], cwd=self.folder, capture_output=True, text=True, timeout=300, **keywords)
        assert done.returncode == status, f"{words}: exit status {done.returncode}, expected {status}\n{done.stderr[-2000:]}"
        return done

    def check_nothing_looks_finished(self):
        assert not (self.folder / "out").exists(), "a model under its final name before it is complete"

    def check_resumes(self):
        self.run(*self.words, "--resume")
        found = self.files()
        assert found == self.expected, [n for n in set(found) | set(self.expected) if found.get(n) != self.expected.get(n)]
        assert not self.staging().exists(), "the staging folder is left"
        left = sorted(p.name for p in self.folder.iterdir())
        assert left == ["base", "one", "out", "three", "ties.yml", "two"], left

    def wait_for_staging(self, process):
        deadline = time.monotonic() + 60
        while not (self.staging() / "merge.journal").exists():
            assert process.poll() is None and time.monotonic() < deadline, "the merge never started"
            time.sleep(0.001)


@test
def killed_at_random_points(b):
    """kill -9, 50 times: some runs are killed again while they resume."""
    draw = random.Random(7)
    kills = 0
    while kills < KILLS:
        b.clear()
        words = b.words
        while kills < KILLS:
            process = b.start(*words)
            time.sleep(draw.uniform(0.02, 1.0) * b.length)
            process.kill()
            _, status = process.communicate()[1], process.returncode
            if status == 0:
                break
            kills += 1
            if (b.folder / "out").exists():  # killed between publishing and its exit
                assert b.files() == b.expected
                break
            words = [*b.words, "--resume"]
            if draw.random() < 0.6:
                b.check_resumes()
                break
    if not (b.folder / "out").exists():
        b.check_resumes()
    assert b.files() == b.expected


@test
def killed_as_it_starts_and_as_it_ends(b):
    """The moments in which files get their names."""
    for share in (0.0, 0.01, 0.03, 0.85, 0.9, 0.95, 0.98):
        b.clear()
        process = b.start(*b.words)
        time.sleep(share * b.length)
        process.kill()
        process.communicate()
        if not (b.folder / "out").exists():
            b.check_resumes()
        assert b.files() == b.expected


@test
def interrupted(b):
    b.clear()
    process = b.start(*b.words)
    b.wait_for_staging(process)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    if process.returncode == 0:
        raise Skip("the merge was faster than the signal")
    assert process.returncode == 130, (process.returncode, error)
    assert ".out.merging" in error and "resume" in error, error
    b.check_nothing_looks_finished()
    b.check_resumes()


def limit_file_size(size):
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@test
def no_room_from_the_start(b):
    """A file system that refuses the output's size: known before any input is read, and nothing stays behind."""
    b.clear()
    error = b.run(*b.words, status=1, preexec_fn=lambda: limit_file_size(400000)).stderr
    assert "room" in error, error
    b.check_nothing_looks_finished()
    assert not b.staging().exists()
    b.check_resumes()


@test
def no_room_at_the_end(b):
    """A small file system: the tensors fit, the tokenizer does not."""
    b.clear()
    mount, copied = b.folder / "small", b.folder.parent / "copied"
    mount.mkdir()
    sizes = sum(len(data) for name, data in b.expected.items() if name.endswith(".safetensors"))
    script = f"mount -t tmpfs -o size={sizes + 150000} none small && shift && \"$@\"; status=$?; ls -A small; " \
             "if [ $status = 1 ]; then mount -o remount,size=64m small && \"$@\" --resume && cp -r small/out ../copied; fi"
    words = ["merge", "ties.yml", "small/out", *b.words[3:]]
    done = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", "sh", b.binary, *words],
                          cwd=b.folder, capture_output=True, text=True, timeout=300)
    mount.rmdir()
    if "mount" in done.stderr or "unshare" in done.stderr:
        raise Skip(f"no file system can be mounted here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    assert "No space left" in done.stderr and "resume" in done.stderr, done.stderr
    assert ".out.merging" in done.stdout and "\nout\n" not in "\n" + done.stdout, done.stdout
    found = {p.name: p.read_bytes() for p in copied.iterdir() if p.name != "README.md"}
    assert found == b.expected


@test
def an_input_gets_shorter(b):
    b.clear()
    file = b.folder / "three" / "model.safetensors"
    whole, times = file.read_bytes(), file.stat()
    process = b.start(*b.words)
    try:
        b.wait_for_staging(process)
        process.send_signal(signal.SIGSTOP)
        os.truncate(file, 100000)
        process.send_signal(signal.SIGCONT)
        error = process.communicate(timeout=60)[1]
    finally:
        file.write_bytes(whole)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    if process.returncode == 0:
        raise Skip("the merge was faster than the test")
    assert process.returncode == 1 and "three" in error and "ends after" in error, error
    b.check_nothing_looks_finished()
    b.check_resumes()


def strace(call, *options):
    """The words before a command whose calls of one kind are to be seen, or made to fail."""
    if shutil.which("strace") is None:
        raise Skip("strace is not installed")
    prefix = ["strace", "-f", "-qq", "-e", f"trace={call}", *options]
    probe = subprocess.run([*prefix, "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        raise Skip(f"strace does not work here: {probe.stderr.splitlines()[0] if probe.stderr else probe.returncode}")
    return prefix


TRACED = {"ASAN_OPTIONS": "detect_leaks=0"}  # the leak checker can not run beside a tracer


def injected(b, call, error, at, wanted):
    """The operating system fails one call, by strace; the merge says so, and a resumed one ends well."""
    prefix = strace(call, "-o", "/dev/null", "-e", f"inject={call}:error={error}:when={at}")
    b.clear()
    done = subprocess.run([*prefix, b.binary, *b.words], cwd=b.folder, capture_output=True, text=True, timeout=300, env=os.environ | TRACED)
    assert done.returncode == 1 and wanted in done.stderr, f"{call} {at}: {done.returncode} {done.stderr}"
    b.check_nothing_looks_finished()
    b.check_resumes()


@test
def reading_fails(b):
    for at in (8, 20, 40):
        injected(b, "pread64", "EIO", at, "Input/output error")


@test
def writing_fails(b):
    for at in (2, 4, 6):
        injected(b, "pwrite64", "ENOSPC", at, "No space left")


@test
def syncing_fails(b):
    injected(b, "fdatasync", "EIO", 1, "Input/output error")


@test
def syncing_in_the_background_fails(b):
    """Models of 32 MiB and more are synced while they grow. What is lost then is not told to the sync at the end."""
    folder = b.folder / "large"
    folder.mkdir()
    try:
        # The first call of each thread.
        prefix = strace("execve,fdatasync", "-o", str(folder / "calls"), "-e", "inject=fdatasync:error=EIO:when=1")
        write_model(folder / "base", {"w": ([12000, 1000], normal(random.Random(1), 12000000, 0.02).tobytes())})
        (folder / "linear.yml").write_text("merge_method: linear\nmodels: [{model: base, parameters: {weight: 0.5}}]\n")
        words = [b.binary, "merge", "linear.yml", "out", "--quiet", "--threads", "2"]
        done = subprocess.run([*prefix, *words], cwd=folder, capture_output=True, text=True, timeout=300, env=os.environ | TRACED)
        assert done.returncode == 1 and "Input/output error" in done.stderr, done.stderr
        assert not (folder / "out").exists()
        calls = [line.split(maxsplit=1) for line in (folder / "calls").read_text().splitlines()]
        failed = [thread for thread, call in calls if "EIO" in call]
        assert len(failed) == 1 and failed[0] != calls[0][0], calls
        done = subprocess.run([*words, "--resume"], cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert (folder / "out/model.safetensors").stat().st_size > 48000000
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@test
def resuming_reads_what_the_disk_has(b):
    """Pages that could not be written may still be in the cache, where nobody writes them again."""
    b.clear()
    prefix = strace("fdatasync", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=1")
    subprocess.run([*prefix, b.binary, *b.words], cwd=b.folder, capture_output=True, timeout=300, env=os.environ | TRACED)
    prefix = strace("fadvise64,pread64", "-y")
    done = subprocess.run([*prefix, b.binary, *b.words, "--resume"], cwd=b.folder, capture_output=True, text=True, timeout=300, env=os.environ | TRACED)
    assert done.returncode == 0, done.stderr
    dropped = set()
    for line in done.stderr.splitlines():
        if "safetensors.part>" not in line:
            continue
        file = line.split("<")[1].split(">")[0]
        if "POSIX_FADV_DONTNEED" in line:
            dropped.add(file)
        elif "pread64" in line:
            assert file in dropped, line
    assert dropped, "no shard was read anew"
    b.clear()


@test
def another_merge_is_not_resumed(b):
    b.clear()
    process = b.start(*b.words)
    b.wait_for_staging(process)
    time.sleep(0.2 * b.length)
    process.kill()
    process.communicate()
    if (b.folder / "out").exists():
        raise Skip("the merge was faster than the signal")
    error = b.run(*b.words, "--resume", "--seed", "3", status=1).stderr
    assert "seed" in error, error
    b.check_resumes()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="theriac-merge-stops-") as folder:
        work = pathlib.Path(folder) / "work"
        work.mkdir()
        bench = Bench(str(pathlib.Path(arguments.bin).resolve()), work)
        return run_cases(bench, arguments.names)


if __name__ == "__main__":
    sys.exit(main())
