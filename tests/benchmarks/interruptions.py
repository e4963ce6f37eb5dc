"""Kill a run at many instants, resume it, and compare its end with that of the run that nobody killed.

    python tests/benchmarks/interruptions.py --group 30 --rank 10 --term 10 --damage 20 data=files data.train=...

Prints a row for each interruption: when and how the run was interrupted, where it went on, and whether the final
weights and ``metrics.csv`` (but for ``tokens_per_second``, which is read off a clock) are those of the run without
interruption. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from interrupted import Trial, is_rank, kill_all, processes_of, start


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
