"""Train with several seeds and print the mean and the sample standard deviation of each test metric.

python tests/benchmarks/seeds.py 3 data=docstrings model=small
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def main(num_seeds: int, overrides: list[str]) -> None:
    """One ``lx train`` a seed, then a line a metric."""
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(num_seeds):
            run = Path(scratch) / str(seed)
            command = [sys.executable, "-m", "lx", "train", "logger=none", *overrides, f"seed={seed}", f"run_dir={run}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            results.append(json.loads((run / "result.json").read_text(encoding="utf-8")))
            print(f"seed {seed}: {results[-1]['metrics']['test/accuracy']:.4f}  ({results[-1]['seconds']:.0f} s)")
    for name in results[0]["metrics"]:
        values = [result["metrics"][name] for result in results]
        spread = statistics.stdev(values) if num_seeds > 1 else 0.0
        print(f"{name:24s} {statistics.mean(values):.4f} ± {spread:.4f}")
    print(f"{'seconds':24s} {statistics.mean(result['seconds'] for result in results):.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
