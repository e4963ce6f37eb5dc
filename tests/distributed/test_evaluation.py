"""Evaluation on many ranks counts every example once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lx.run.directory import RunDirectory
from lx.run.predictions import read_predictions
from support.commands import assert_done
from support.corpus import examples, jsonl, write_rows
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


SPLITS = ["data=files", "data.train=train.jsonl", "data.validation=validation-long.jsonl", "data.test=test.jsonl"]
LABELS_OF_TASK: dict[str, Callable[[dict[str, str]], Any]] = {
    "multilabel": lambda row: [row["label"], *(["long"] if len(row["text"]) > 400 else [])],
    "regression": lambda row: len(row["text"]) / 7,
}


def train_on_one_and_on_three(folder: Path, name: str, *settings: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train the same run on one process and on three ranks; return the two results."""
    write_rows(folder / "validation-long.jsonl", 301, start=2000, repeat=20, unbalanced=True)
    settings = (*SPLITS, *settings, "logger=csv", "data.max_length=256", "data.batch_size=8")
    one = fork(folder, "train", *settings, f"run_dir=one-{name}", "hardware=cpu", "hardware.precision=32-true")
    assert_done(one.wait())
    assert_done(fork(folder, "train", *settings, f"run_dir=ranks-{name}", *ranks(3), "launch=prepare").wait())
    work(folder, f"ranks-{name}", 3)
    return result(folder / f"one-{name}"), result(folder / f"ranks-{name}")


def test_what_is_chosen_on_validation_is_the_same_on_ranks(folder: Path) -> None:
    """An expert alone has the same scores on all; weights are fitted, and measured, on those of all ranks."""
    of_one, of_ranks = train_on_one_and_on_three(folder, "alone", "model=linear", "model.expert.min_count=1")
    assert of_ranks["metrics"] == of_one["metrics"]
    assert of_ranks["choices"] == of_one["choices"] != {"encoder_weight": 1.0, "expert_weight": 1.0}


@pytest.mark.parametrize("rows", [1, 301])
@pytest.mark.parametrize("task", sorted(LABELS_OF_TASK))
def test_labels_and_numbers_are_validated_alike_on_ranks(task: str, rows: int, folder: Path) -> None:
    """With weights that do not move; each example counts once, though every rank has the scores of all."""
    for split, count, start in (("train", 50, 0), ("validation", rows, 2000)):
        own = [
            {**row, "label": LABELS_OF_TASK[task](row)} for row in examples(count, start, repeat=20, unbalanced=True)
        ]
        (folder / f"{task}-{split}.jsonl").write_text(jsonl(own))
    of_one, of_ranks = train_on_one_and_on_three(
        folder,
        f"{task}-{rows}",
        *(f"task={task}", f"data.train={task}-train.jsonl", f"data.validation={task}-validation.jsonl"),
        *("data.test=null", "model=tiny", *EXPERT, "optimizer.lr=1e-30", "trainer.max_steps=1"),
    )
    assert of_ranks["metrics"] == of_one["metrics"]
    assert of_ranks["choices"] == of_one["choices"]
    assert len(of_one["choices"]) == (1 if task == "regression" else 3)
