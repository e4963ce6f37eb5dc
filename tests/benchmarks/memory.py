"""Peak memory of training on many rows against few: it must not grow with the data.

    python tests/benchmarks/memory.py 5000000 50000

Writes a file of short texts for each size, runs `lx train` on it for 50 steps with an empty cache, and prints the
largest resident memory of any of its processes.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = [f"{start}{middle}{end}" for start in "bcdfghjklmnp" for middle in "aeiou" for end in "nrst"]


def write(path: Path, rows: int) -> None:
    """Texts of 4 to 12 made-up words, of five classes with a word of their own each."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for _ in range(rows):
            label = draw.randrange(5)
            words = draw.choices(WORDS, k=draw.randint(4, 12))
            file.write(f"{' '.join(words)} class{label}word,{label}\n")


def peak(rows: int) -> tuple[float, float]:
    """Gigabytes and seconds of a training on so many rows, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        write(place / "train.csv", rows)
        command = [
            sys.executable,
            "-m",
            "lx",
            "train",
            "data=files",
            "data.train=train.csv",
            "recipe=plain",
            "model=tiny",
        ]
        command += ["hardware=cpu", "logger=none", "trainer.max_steps=50", "trainer.limit_eval_batches=20"]
        started = time.perf_counter()
        environment = {**os.environ, "LX_CACHE": str(place / "cache")}
        subprocess.run(command, cwd=place, env=environment, check=True, stdout=subprocess.DEVNULL)
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, time.perf_counter() - started


def main(many: int, few: int) -> None:
    """Measure the few first: the figure is the largest of all children so far."""
    small, _ = peak(few)
    large, seconds = peak(many)
    print(
        f"{few:,} rows: {small:.2f} GB; {many:,} rows: {large:.2f} GB in {seconds:.0f} s; {large - small:.2f} GB more"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
