"""Evaluation on many ranks counts every example once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lx.run.directory import RunDirectory
from lx.run.predictions import read_predictions
from support.commands import assert_done
from support.corpus import write_rows
from support.forked import fork
from support.ranks import ranks, train_on_ranks, work
from support.run_files import result

pytestmark = pytest.mark.distributed


EXPERT = ["model/expert=linear", "model.expert.min_count=1"]


@pytest.mark.parametrize(("count", "more"), [(1, []), (7, EXPERT), (501, [])])
def test_every_example_counts_once(count: int, more: list[str], folder: Path) -> None:
    """In one batch, or in five: the metrics of four ranks are those of one process with the same weights."""
    write_rows(folder / f"test-{count}.jsonl", count, start=1000, repeat=20, unbalanced=True)
    run = f"counted-{count}"
    train_on_ranks(folder, run, 4, f"data.test=test-{count}.jsonl", "data.max_length=256", "trainer.max_steps=1", *more)
    assert_done(fork(folder, "eval", run, "hardware=cpu").wait())
    of_ranks, of_one = result(folder / run), json.loads((folder / run / "eval.json").read_text())
    assert sum(map(sum, of_ranks["confusion_matrix"])) == count
    assert of_ranks["confusion_matrix"] == of_one["confusion_matrix"]
    assert of_ranks["per_class"] == of_one["per_class"]
    assert ("test/expert_accuracy" in of_one["metrics"]) == bool(more)
    for name, value in of_one["metrics"].items():
        assert of_ranks["metrics"][name] == value, name
    kept = read_predictions(RunDirectory(folder / run)).splits
    for name, prefix, rows in (("validation", "val", 23), ("test", "test", count)):
        assert kept[name].rows.tolist() == list(range(rows))
        assert kept[name].metric.mean() == of_ranks["metrics"][f"{prefix}/accuracy"]
        assert kept[name].loss.mean() == pytest.approx(of_ranks["metrics"][f"{prefix}/loss"], rel=1e-5, abs=1e-7)


def test_what_is_chosen_on_validation_is_the_same_on_ranks(folder: Path) -> None:
    """An expert alone has the same scores on all; weights are fitted, and measured, on those of all ranks."""
    write_rows(folder / "validation-long.jsonl", 301, start=2000, repeat=20, unbalanced=True)
    settings = [
        *("data.train=train.jsonl", "data.validation=validation-long.jsonl", "data.test=test.jsonl", "data=files"),
        *("model=linear", "model.expert.min_count=1", "logger=csv", "data.max_length=256", "data.batch_size=8"),
    ]
    assert_done(
        fork(folder, "train", *settings, "run_dir=one-alone", "hardware=cpu", "hardware.precision=32-true").wait()
    )
    assert_done(fork(folder, "train", *settings, "run_dir=prepared-alone", *ranks(3), "launch=prepare").wait())
    work(folder, "prepared-alone", 3)
    of_one, of_ranks = result(folder / "one-alone"), result(folder / "prepared-alone")
    assert of_ranks["metrics"] == of_one["metrics"]
    assert of_ranks["choices"] == of_one["choices"] != {"encoder_weight": 1.0, "expert_weight": 1.0}
