"""An interrupted run goes on to the same weights, bit for bit, and the same record."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from lx.data.batches import Batch
from lx.errors import LxError
from lx.run.checkpoint import read_step
from lx.training.module import TextClassifier
from lx.training.train import train_in
from support.corpus import write_rows
from support.interruptions import assert_equal, interrupt, outcome, prepared

BY_LOSS = ["objective.metric=val/loss", "objective.mode=min"]


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
]


# Epochs have 6 steps, runs 3 epochs, and every second step is saved, unless a setting says otherwise.
# Name: settings; a step that is validated after; the last step.
SETTINGS: dict[str, tuple[list[str], int, int]] = {
    "average": (["trainer.ema_decay=0.9"], 12, 18),
    "three best": (["trainer.keep_best=3", "trainer.val_check_interval=4", *BY_LOSS], 8, 18),
    "an odd length": (["trainer.max_steps=17", "trainer.val_check_interval=5", "trainer.save_every_n_steps=3"], 10, 17),
    "a share of an epoch": (["trainer.val_check_interval=0.4", "trainer.max_epochs=2"], 8, 12),
    "validation after two epochs": (["trainer.check_val_every_n_epoch=2"], 12, 18),
    "limits": (["trainer.limit_train_batches=5", "trainer.max_epochs=4", "trainer.limit_eval_batches=1"], 10, 20),
    "early stopping": (["trainer.early_stopping_patience=1", "optimizer.lr=1e-9", "trainer.max_epochs=9"], 12, 12),
    "moved embeddings": (["model.adversarial=0.3"], 12, 18),
    "an expert": (["model/expert=linear", "model.expert.min_count=1"], 12, 18),
    "two workers": (["hardware.num_workers=2"], 12, 18),
    "neither schedule nor clipping": (
        ["scheduler=constant", "optimizer=muon", "trainer.gradient_clip_val=null"],
        12,
        18,
    ),
    "saved before validations alone": (["trainer.save_every_n_steps=null"], 12, 18),
}


FAST_SETTINGS = ("average", "early stopping")


@pytest.mark.parametrize(
    ("hook", "step", "saved"),
    [
        ("training_step", 0, None),
        ("training_step", 1, None),
        ("training_step", 9, 8),
        ("training_step", 11, 10),
        ("on_validation_start", 12, 12),
        ("validation_step", 12, 12),
        ("on_validation_epoch_end", 12, 12),
        ("training_step", 12, 12),
        ("validation_step", 18, 18),
        ("test_step", 18, 18),
    ],
)
def test_an_interruption_leaves_no_trace(
    place: Path, uninterrupted: Callable[..., dict[str, Any]], hook: str, step: int, saved: int | None
) -> None:
    run = prepared(place, f"{hook}-{step}")
    interrupt(run, hook, step)
    assert saved == (read_step(run.last) if run.last.exists() else None)
    train_in(run)
    assert_equal(outcome(run), uninterrupted())


@pytest.mark.parametrize(
    "name", [name if name in FAST_SETTINGS else pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS]
)
def test_many_interruptions_leave_no_trace(
    place: Path, uninterrupted: Callable[..., dict[str, Any]], name: str
) -> None:
    overrides, validated, last = SETTINGS[name]
    run = prepared(place, name, *overrides)
    for hook, step in [("training_step", 5), ("training_step", 7), ("validation_step", validated), ("test_step", last)]:
        interrupt(run, hook, step)
    train_in(run)
    assert run.read_result().steps == last
    assert_equal(outcome(run), uninterrupted(*overrides))


def test_an_interruption_between_skipped_updates_leaves_no_trace(
    place: Path, uninterrupted: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TextClassifier.forward

    def poisoned(self: TextClassifier, batch: Batch) -> Tensor:
        logits = forward(self, batch)
        return logits * math.nan if self.training and self.trainer.global_step in (4, 10, 13) else logits

    monkeypatch.setattr(TextClassifier, "forward", poisoned)
    run = prepared(place, "skipped", "trainer.on_nan=skip")
    interrupt(run, "training_step", 9)
    interrupt(run, "training_step", 14)
    train_in(run)
    found = outcome(run)
    assert found["/last.ckpt/skipped_updates"] == 3
    assert_equal(found, uninterrupted("trainer.on_nan=skip"))


def test_a_damaged_state_costs_the_steps_since_the_one_before(
    place: Path, uninterrupted: Callable[..., dict[str, Any]]
) -> None:
    run = prepared(place, "damaged")
    interrupt(run, "training_step", 11)
    run.last.write_bytes(run.last.read_bytes()[:-1])
    train_in(run)
    assert "last.ckpt is damaged" in run.log.read_text()
    assert "going on after step 8" in run.log.read_text()
    assert_equal(outcome(run), uninterrupted())


def test_changed_data_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", 50)
    write_rows(tmp_path / "test.jsonl", 18, start=100)
    run = prepared(tmp_path, "run")
    interrupt(run, "training_step", 9)
    write_rows(tmp_path / "train.jsonl", 51)
    with pytest.raises(LxError, match=r"the data is not what .* was trained on"):
        train_in(run)
    assert run.last.exists(), "what was trained is kept"
    write_rows(tmp_path / "train.jsonl", 50)
    assert train_in(run).status == "finished"
