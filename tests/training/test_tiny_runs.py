"""Tiny runs, against what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lx
from support.corpus import write_rows
from support.run_files import losses, rows
from support.tiny_run import tiny, train_tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
GOLDEN = {  # of each step, by pooling; dropout 0, weights that no version of torch draws otherwise, fp32 on a CPU
    "mean": [
        *(1.098615, 1.104792, 1.097619, 1.049205, 1.015331, 0.902776),
        *(0.838653, 0.811984, 0.679387, 0.683341, 0.632295, 0.668050),
    ],
    "mean_query": [
        *(1.098463, 1.107231, 1.100574, 1.042289, 1.005803, 0.817673),
        *(0.723492, 0.654526, 0.545894, 0.538241, 0.498719, 0.499638),
    ],
}


EXACT = [
    "logger=csv",
    "model.dropout=0",
    "model.token_dropout=0",
    "trainer.log_every_n_steps=1",
    "trainer.max_epochs=4",
    "data.batch_size=16",
    "optimizer.lr=0.03",
]


def draw_by_numpy(net: nn.Module) -> None:
    """Initial weights; torch 2.11 and 2.13 draw others from one seed."""
    random = np.random.default_rng(0)
    for name, weight in net.named_parameters():
        if weight.dim() > 1:
            weight.data = torch.from_numpy(random.normal(0, 0.02, weight.shape)).float()
        elif name.endswith("bias"):
            weight.data.zero_()


@pytest.mark.parametrize("pooling", GOLDEN)
def test_golden_losses_whatever_the_micro_batch_and_the_padding(
    pooling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lx.nn.classifier.initialize", draw_by_numpy)
    exact = [*EXACT, f"model/pooling={pooling}"]
    train_tiny(tmp_path, *exact)
    whole = list(losses(tmp_path / "run").values())
    for name, setting in {"cut": "hardware.micro_batch=5", "padded": "hardware.pad_multiple=8"}.items():
        train_tiny(tmp_path, *exact, setting, f"run_dir={tmp_path / name}")
        assert list(losses(tmp_path / name).values()) == pytest.approx(whole, rel=1e-5)
    assert whole == pytest.approx(GOLDEN[pooling], rel=1e-4)


def test_eight_rows_are_learnt_by_heart(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", 8)
    write_rows(tmp_path / "test.jsonl", 18, start=100)
    more = [
        *["trainer.max_epochs=60", "trainer.check_val_every_n_epoch=60"],
        "optimizer.lr=0.03",
        "model.dropout=0",
        "model.token_dropout=0",
        "logger=csv",
        "trainer.log_every_n_steps=1",
    ]
    valid = [f"data.validation={tmp_path / 'train.jsonl'}", "scheduler=constant", "model.dim=16"]
    result = lx.train(lx.compose(tiny(tmp_path, *more, *valid, f"run_dir={tmp_path / 'overfit'}")))
    assert list(losses(tmp_path / "overfit").values())[-1] < 0.05
    assert result.metrics["val/accuracy"] == 1


@pytest.mark.parametrize(
    ("settings", "metric", "best"),
    [
        ([], "val/loss", min),
        (["objective.checkpoint=val/accuracy"], "val/accuracy", max),
        (["objective.metric=val/f1_macro"], "val/f1_macro", max),
    ],
)
def test_the_best_checkpoint(
    settings: list[str], metric: str, best: Callable[[list[float]], float], tmp_path: Path
) -> None:
    """The loss falls on after all are right."""
    more = [
        "logger=csv",
        "trainer.log_every_n_steps=6",
        "trainer.max_epochs=6",
        "optimizer.lr=0.05",
        "scheduler=constant",
    ]
    result = train_tiny(tmp_path, *more, *settings)
    validations = [row for row in rows(tmp_path / "run") if row["val/loss"]]
    values = [float(row[metric]) for row in validations]
    expected = validations[values.index(best(values))]
    accuracies = [row["val/accuracy"] for row in validations]
    assert (expected["step"] == validations[accuracies.index(max(accuracies))]["step"]) == (metric != "val/loss")
    checkpoint = torch.load(result.best_checkpoint, weights_only=True)
    objective = "val/f1_macro" if metric == "val/f1_macro" else "val/accuracy"
    assert checkpoint["step"] == int(expected["step"])
    assert result.objective == checkpoint["objective"] == pytest.approx(float(expected[objective]))


def test_from_python(tmp_path: Path) -> None:
    result = train_tiny(tmp_path)
    assert result.status == "finished"
    assert {"val/accuracy", "test/accuracy", "test/f1_macro"} <= result.metrics.keys()
    assert result.objective == result.metrics["val/accuracy"]
    (prediction,) = lx.load(result.run_dir).predict(["bread onion soup"])
    assert prediction.label in ("food", "music", "space")
