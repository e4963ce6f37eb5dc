"""Kill a run at many instants, resume it, and compare its end with that of the run that nobody killed.

    python tests/benchmarks/interruptions.py --group 30 --rank 10 --term 10 --damage 20 data=files data.train=...

Prints a row for each interruption: when and how the run was interrupted, where it went on, and whether the final
weights and ``metrics.csv`` (but for ``tokens_per_second``, which is read off a clock) are those of the run without
interruption. Linux only.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

LX = [sys.executable, "-m", "lx"]


@dataclass(frozen=True)
class End:
    """What a run came to."""

    weights: str
    rows: tuple[tuple[tuple[str, str], ...], ...]


def end_of(run: Path) -> End:
    """Hash of the final weights, and the metrics."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    digest = sha256()
    for name, weight in sorted(state.items()):
        digest.update(name.encode() + weight.contiguous().numpy().tobytes())
    with (run / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in csv.DictReader(file)]
    return End(digest.hexdigest(), tuple(tuple(row.items()) for row in rows))


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A command in a session of its own."""
    with log.open("ab") as out:
        return subprocess.Popen([*LX, *arguments], stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


def processes_of(run: Path) -> list[int]:
    """Every process whose command line names the run, and their descendants."""
    parents: dict[int, int] = {}
    found = set()
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if {str(run), f"run_dir={run}"} & set(words):
                found.add(int(place.name))
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def kill_all(run: Path) -> None:
    """SIGKILL for the process groups of a run: that of the launcher, and those that it started."""
    for group in {os.getpgid(process) for process in processes_of(run) if Path(f"/proc/{process}").exists()}:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def instants(count: int, seconds: float, draw: random.Random) -> Iterator[tuple[str, float]]:
    """What to wait for, and how long after it to strike."""
    named = ["before the first step", "checkpoint write", "validation", "checkpoint write", "validation"]
    for number in range(count):
        if number % 3 == 0:
            yield named[number // 3 % len(named)], draw.uniform(0, 0.05)
        else:
            yield "any time", draw.uniform(0, seconds)


def wait_for(what: str, delay: float, run: Path, process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """Return at the instant, or when the process has ended."""
    checkpoints = run / "checkpoints"
    skip = draw.randrange(4)  # which of the writes, or validations
    seen = 0
    while process.poll() is None:
        if what == "any time":
            break
        if what == "before the first step" and (run / "model.json").exists():
            break
        if what == "checkpoint write" and any(checkpoints.glob(".*.tmp")):
            seen += 1
            if seen > skip:
                return
            while any(checkpoints.glob(".*.tmp")):
                time.sleep(0.0005)
        if what == "validation" and (checkpoints / "newer.ckpt").exists():
            seen += 1
            if seen > skip:
                break
            time.sleep(0.05)
        time.sleep(0.0005)
    deadline = time.monotonic() + delay
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)


def went_on(log: Path) -> str:
    """Where the resumed run began."""
    found = re.findall(r"going on after step (\d+)", log.read_text(errors="replace"))
    return f"step {found[-1]}" if found else "the start"


class Trial:
    """A place for interrupted runs, and the run that they are compared with."""

    def __init__(self, overrides: list[str], folder: Path, name: str) -> None:
        self.overrides = overrides
        self.folder = folder / name
        self.folder.mkdir()
        self.reference = self.folder / "reference"
        begun = time.monotonic()
        log = self.folder / "reference.log"
        if start(self.arguments(self.reference), log).wait() != 0:
            sys.exit(log.read_text())
        self.seconds = time.monotonic() - begun
        self.end = end_of(self.reference)
        self.good = self.total = 0
        print(f"\n{name}: {self.seconds:.1f} s without interruption, weights {self.end.weights[:16]}", flush=True)

    def arguments(self, run: Path) -> list[str]:
        """Of ``lx``, to train in a directory."""
        return ["train", *self.overrides, f"run_dir={run}"]

    def finish(self, what: str, run: Path, begun: float) -> None:
        """Resume an interrupted run, compare, and print the row."""
        time.sleep(0.2)
        left = processes_of(run)
        log = run.with_suffix(".resume.log")
        code = start(["resume", str(run)], log).wait()
        end = end_of(run) if code == 0 else None
        same = end is not None and end == self.end
        self.good += same
        self.total += 1
        verdict = "same weights and metrics" if same else f"DIFFERENT (exit {code})"
        note = f", {len(left)} processes left" if left else ""
        print(f"  {self.total:3d} {what:45s} went on from {went_on(log):10s} {verdict}{note}", flush=True)
        if same:
            shutil.rmtree(run)

    def summary(self) -> None:
        """How many came to the same end."""
        print(f"  {self.good} of {self.total} the same", flush=True)


def group(trial: Trial, count: int, draw: random.Random) -> None:
    """SIGKILL for all processes of the run."""
    for number, (what, delay) in enumerate(instants(count, trial.seconds, draw)):
        run = trial.folder / f"run{number}"
        begun = time.monotonic()
        process = start(trial.arguments(run), run.with_suffix(".log"))
        while not (run / "config.yaml").exists():
            time.sleep(0.005)
        wait_for(what, delay, run, process, draw)
        after = time.monotonic() - begun
        kill_all(run)
        process.wait()
        trial.finish(f"SIGKILL, {what}, after {after:.2f} s", run, begun)
    trial.summary()


def is_rank(process: int) -> bool:
    """Whether a process is a worker itself, not one of those that assemble its batches."""
    try:
        parent = (Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split())[1]
        words = [Path(f"/proc/{who}/cmdline").read_bytes() for who in (process, parent)]
    except OSError:
        return False
    return b"lx.training.worker" in words[0] and b"lx.launch.torchrun" in words[1]


def one_rank(trial: Trial, count: int, draw: random.Random) -> None:
    """SIGKILL for one of two ranks; the group must end by itself."""
    for number in range(count):
        run = trial.folder / f"run{number}"
        begun = time.monotonic()
        process = start(trial.arguments(run), run.with_suffix(".log"))
        ranks: list[int] = []
        delay = draw.uniform(trial.seconds * 0.3, trial.seconds)
        while process.poll() is None and (time.monotonic() - begun < delay or len(ranks) < 2):
            ranks = [process for process in processes_of(run) if is_rank(process)]
            time.sleep(0.05)
        if process.poll() is not None:
            continue
        struck = draw.choice([0, 1])
        killed = time.monotonic()
        os.kill(ranks[struck], signal.SIGKILL)
        code = process.wait()
        ended = time.monotonic() - killed
        trial.finish(f"SIGKILL of process {struck + 1}, exit {code} {ended:.1f} s later", run, begun)
    trial.summary()


def terminated(trial: Trial, count: int, draw: random.Random) -> None:
    """SIGTERM for the launcher."""
    for number in range(count):
        run = trial.folder / f"run{number}"
        begun = time.monotonic()
        process = start(trial.arguments(run), run.with_suffix(".log"))
        while process.poll() is None and not (run / "metrics.csv").exists():
            time.sleep(0.01)
        time.sleep(draw.uniform(0, max(0.1, trial.seconds - (time.monotonic() - begun) - 1)))
        if process.poll() is not None:
            continue
        told = time.monotonic()
        process.terminate()
        code = process.wait()
        status = json.loads((run / "result.json").read_text())["status"]
        trial.finish(f"SIGTERM, {status}, exit {code} {time.monotonic() - told:.1f} s later", run, begun)
    trial.summary()


def damaged(trial: Trial, count: int, draw: random.Random) -> None:
    """A checkpoint cut short, or with a byte flipped."""
    for number in range(count):
        run = trial.folder / f"run{number}"
        begun = time.monotonic()
        process = start(trial.arguments(run), run.with_suffix(".log"))
        while not (run / "checkpoints" / "previous.ckpt").exists():
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 1))
        kill_all(run)
        process.wait()
        last = run / "checkpoints" / "last.ckpt"
        if not last.exists():  # killed between two renames
            last.write_bytes((run / "checkpoints" / "previous.ckpt").read_bytes())
        size = last.stat().st_size
        place = draw.randrange(size)
        with last.open("rb+") as file:
            if number % 2:
                file.truncate(place)
                what = f"last.ckpt cut to {place:,} of {size:,} bytes"
            else:
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ 1 << draw.randrange(8)]))
                what = f"a bit of byte {place:,} flipped"
        trial.finish(what, run, begun)
    trial.summary()


def main() -> None:
    """One table for each kind of interruption."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("group", "rank", "term", "damage"):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    draw = random.Random(args.seed)
    kinds = [("group", group, []), ("term", terminated, []), ("damage", damaged, [])]
    with tempfile.TemporaryDirectory() as scratch:
        for name, strike, extra in kinds:
            if count := getattr(args, name):
                strike(Trial([*args.overrides, *extra], Path(scratch), name), count, draw)
        if args.rank:
            two = ["hardware=ddp_cpu", "hardware.devices=2"]
            one_rank(Trial([*args.overrides, *two], Path(scratch), "rank"), args.rank, draw)


if __name__ == "__main__":
    main()
