"""Training speed on two cores: one process of two threads against two ranks of one thread.

    python tests/benchmarks/ranks.py data=files data.train=train.jsonl data.test=test.jsonl --rounds 5

Each trains 120 steps with ``lx train``, on the same global batches. The figure is the real tokens of the steps after
the twentieth over the seconds that they took, by ``tokens_per_second`` in ``metrics.csv``.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import lx
from lx.system.hardware import resolve
from lx.training.builders import build_run

STEPS = 120
WARMUP = 20  # steps that are left out
SETTINGS = ["recipe=plain", "logger=csv", "trainer.log_every_n_steps=1", "trainer.limit_eval_batches=1"]
WAYS = {
    "1 process x 2 threads": ["hardware=cpu", "hardware.threads=2"],
    "2 ranks x 1 thread": ["hardware=ddp_cpu", "hardware.devices=2", "hardware.threads=1"],
}


def tokens_of_steps(overrides: list[str]) -> list[int]:
    """Real tokens of each step's global batch; they follow from the data and the seed."""
    data = build_run(lx.compose([*SETTINGS, *overrides]), resolve("cpu")).data
    counts: list[int] = []
    epoch = 0
    while len(counts) < STEPS:
        data.start_at(epoch, 0)
        counts += [batch.num_tokens for batch in islice(data.train_dataloader(), STEPS - len(counts))]
        epoch += 1
    return counts


def rate(run: Path, overrides: list[str], tokens: list[int]) -> float:
    """Real tokens a second of a training."""
    settings = [*SETTINGS, *overrides, f"trainer.max_steps={STEPS}", f"run_dir={run}"]
    command = [sys.executable, "-m", "lx", "train", *settings]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout)
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        rates = [float(row["tokens_per_second"]) for row in csv.DictReader(file) if row["tokens_per_second"]]
    seconds = [count / found for count, found in zip(tokens, rates, strict=True)]
    return sum(tokens[WARMUP:]) / sum(seconds[WARMUP:])


def main() -> None:
    """A line for each round, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    tokens = tokens_of_steps(args.overrides)
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(1, args.rounds + 1):
            for name, way in WAYS.items():
                run = Path(scratch) / f"{number}-{len(way)}"
                rates[name].append(rate(run, [*args.overrides, *way], tokens))
            told = "  ".join(f"{name} {found[-1]:,.0f}" for name, found in rates.items())
            print(f"round {number}: {told} real tokens a second", flush=True)
    for name, found in rates.items():
        print(f"median: {name:24s} {statistics.median(found):10,.0f}")
    one, two = rates.values()
    ratios = [b / a for a, b in zip(one, two, strict=True)]
    print(f"2 ranks over 1 process: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
