"""The same run on different hardware: loss curves and metrics against one process.

    python tests/benchmarks/curves.py 32-true data=files data.train=train.jsonl data.test=test.jsonl data.batch_size=128

The precision (32-true, 64-true) comes first. Trains 200 steps without dropout in one process, in one process with four
micro-batches, on 2 and 4 ranks, and on two nodes (two launchers that meet on the loopback interface), and prints for
each the largest relative difference of the loss at any step, and of every metric at the end.
"""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

SETTINGS = [
    "recipe=plain",
    "model.dropout=0",
    "model.token_dropout=0",
    "trainer.max_steps=200",
    "trainer.log_every_n_steps=1",
    "logger=csv",
]


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ways(batch_size: int) -> dict[str, list[str]]:
    """Name and overrides of each way to compute."""
    two_nodes = ["hardware=ddp_cpu", "hardware.devices=1", "hardware.num_nodes=2"]
    return {
        "1 process": ["hardware=cpu"],
        "1 process, 4 micro-batches": ["hardware=cpu", f"hardware.micro_batch={-(-batch_size // 4)}"],
        "2 ranks": ["hardware=ddp_cpu", "hardware.devices=2"],
        "4 ranks": ["hardware=ddp_cpu", "hardware.devices=4"],
        "2 nodes x 1 rank": [*two_nodes, f"hardware.rdzv_endpoint=127.0.0.1:{free_port()}"],
    }


def train(run: Path, overrides: list[str], launchers: int) -> tuple[list[float], dict[str, float]]:
    """The loss of each step, and the metrics at the end."""
    command = [sys.executable, "-m", "lx", "train", *overrides, f"run_dir={run}"]
    log = run.with_suffix(".log").open("w")
    started = [subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) for _ in range(launchers)]
    if any(process.wait() for process in started):
        sys.exit(run.with_suffix(".log").read_text())
    with (run / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    return losses, json.loads((run / "result.json").read_text())["metrics"]


def main(precision: str, overrides: list[str]) -> None:
    """A line for each way."""
    batch_size = next((int(o.partition("=")[2]) for o in overrides if o.startswith("data.batch_size=")), 64)
    wanted: list[float] = []
    metrics: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, way in ways(batch_size).items():
            run = Path(scratch) / name.replace(" ", "-").replace(",", "")
            chosen = [*SETTINGS, *overrides, *way, f"hardware.precision={precision}"]
            losses, found = train(run, chosen, 2 if "nodes" in name else 1)
            if not wanted:
                wanted, metrics = losses, found
                print(f"{precision} {name:28s} {len(losses)} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}")
                print("    " + "  ".join(f"{key} {value!r}" for key, value in metrics.items()), flush=True)
                continue
            far = max(abs(a - b) / abs(b) for a, b in zip(losses, wanted, strict=True))
            others = [key for key in metrics if found[key] != metrics[key]]
            told = ", ".join(f"{key} by {abs(found[key] / metrics[key] - 1):.0e}" for key in others) or "none"
            print(f"{precision} {name:28s} loss {far:.1e}; differing metrics: {told}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
