"""A training in this process that takes a second."""

from __future__ import annotations

import warnings
from pathlib import Path

import lx
from lx.run.result import Result
from support.corpus import write_rows


def tiny(folder: Path, *overrides: str) -> list[str]:
    """Overrides of a training on the rows in a folder that takes a second."""
    small = "model=tiny model.dim=8 model.num_heads=2 model.num_layers=1 data.batch_size=8 data.max_length=16"
    return [
        "data=files",
        f"data.train={folder / 'train.jsonl'}",
        f"data.test={folder / 'test.jsonl'}",
        f"data.cache_dir={folder / 'cache'}",
        f"run_dir={folder / 'run'}",
        *small.split(),
        *["tokenizer=word", "hardware=cpu", "hardware.precision=32-true", "hardware.threads=1", "logger=none"],
        *["recipe=plain", "optimizer.lr=0.01"],
        *overrides,
    ]


def train_tiny(folder: Path, *overrides: str) -> Result:
    """Write rows into a folder and train on them."""
    write_rows(folder / "train.jsonl", 48)
    write_rows(folder / "test.jsonl", 18, start=100)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)  # Lightning's own
        return lx.train(lx.compose(tiny(folder, *overrides)))
