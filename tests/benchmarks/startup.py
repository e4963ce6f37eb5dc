"""From the command to the first optimizer step on prepared data, against importing torch and lightning.

    python tests/benchmarks/startup.py data=files data.train=train.jsonl data.test=test.jsonl --rounds 5

A run that is not timed prepares the data. The first step is taken to be done when its row stands in ``metrics.csv``,
which is looked at every 5 milliseconds. The figure of merit is what the start takes beyond 1.6 times the import.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = ["logger=csv", "trainer.max_steps=2", "trainer.log_every_n_steps=1", "trainer.limit_eval_batches=1"]
POLL_S = 0.005
IMPORTS = 1.6  # how many times the seconds of the import a start may take, besides the allowance


def has_row(path: Path) -> bool:
    """Whether a CSV file holds a whole row behind its header."""
    return path.exists() and path.read_bytes().count(b"\n") >= 2


def start(run: Path, overrides: list[str]) -> tuple[float, float]:
    """Seconds to the first step, and to the end of a short training."""
    log = run.with_suffix(".log")
    command = [sys.executable, "-m", "lx", "train", *SETTINGS, *overrides, f"run_dir={run}"]
    with log.open("w") as out:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while not has_row(run / "metrics.csv"):
            if process.poll() is not None:
                sys.exit(f"the training ended without a step:\n{log.read_text()}")
            time.sleep(POLL_S)
        first = time.perf_counter() - begun
        code = process.wait()
    if code != 0:
        sys.exit(log.read_text())
    return first, time.perf_counter() - begun


def imports() -> float:
    """Seconds of a process that imports torch and lightning, and ends."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, lightning"], check=True)
    return time.perf_counter() - begun


def main() -> None:
    """A line for each round, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    rows: list[tuple[float, float, float, float, float]] = []
    names = ["first step", "end of the run", "import", "first step / import", f"first step - {IMPORTS} x import"]
    with tempfile.TemporaryDirectory() as scratch:
        start(Path(scratch) / "warm", args.overrides)
        imports()
        for number in range(1, args.rounds + 1):
            first, end = start(Path(scratch) / str(number), args.overrides)
            bare = imports()
            rows.append((first, end, bare, first / bare, first - IMPORTS * bare))
            told = "  ".join(f"{name} {value:.2f}" for name, value in zip(names, rows[-1], strict=True))
            print(f"round {number}: {told}", flush=True)
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        print(f"median: {name:28s} {statistics.median(values):6.2f}  ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
