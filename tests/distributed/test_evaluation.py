"""Evaluation on many ranks counts every example once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import assert_done
from support.corpus import write_rows
from support.forked import fork
from support.ranks import train_on_ranks
from support.run_files import result

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize("count", [1, 7, 501])
def test_every_example_counts_once(count: int, folder: Path) -> None:
    """In one batch, or in five: the metrics of four ranks are those of one process with the same weights."""
    write_rows(folder / f"test-{count}.jsonl", count, start=1000, repeat=20, unbalanced=True)
    run = f"counted-{count}"
    train_on_ranks(folder, run, 4, f"data.test=test-{count}.jsonl", "data.max_length=256", "trainer.max_steps=1")
    assert_done(fork(folder, "eval", run, "hardware=cpu").wait())
    of_ranks, of_one = result(folder / run), json.loads((folder / run / "eval.json").read_text())
    assert sum(map(sum, of_ranks["confusion_matrix"])) == count
    assert of_ranks["confusion_matrix"] == of_one["confusion_matrix"]
    assert of_ranks["per_class"] == of_one["per_class"]
    for name, value in of_one["metrics"].items():
        assert of_ranks["metrics"][name] == value, name
