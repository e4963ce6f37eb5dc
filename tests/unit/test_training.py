"""One optimizer step and one tiny run, against what is known of them."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_run import tiny, train_tiny, write_rows
from torch import nn

import lx
from lx.callbacks.ema import WeightAverage
from lx.data.batches import Batch, GlobalBatch
from lx.module import TextClassifier
from lx.tasks.classification import Classification

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


class Linear(nn.Module):
    """Mean of one-hot tokens, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(7, 3, dtype=torch.float64)

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor, token_types: None) -> torch.Tensor:
        features = nn.functional.one_hot(token_ids, 7).double() * mask[..., None]
        return self.head(features.sum(1) / mask.sum(1, keepdim=True))


class InFloat64(TextClassifier):
    """Logits stay in the precision of the network, so that tiny differences show."""

    def forward(self, batch: Batch) -> torch.Tensor:
        logits: torch.Tensor = self.net(batch.token_ids, batch.mask, batch.token_types)
        return logits


def gradient(cuts: list[int], **settings: object) -> tuple[float, torch.Tensor]:
    """Loss and gradient of one training step over 11 examples in micro-batches of the given sizes."""
    torch.manual_seed(0)
    net, task = Linear(), Classification(["a", "b", "c"], [5, 3, 3], **settings)  # type: ignore[arg-type]
    ids, labels = torch.randint(1, 7, (11, 5)), torch.arange(11) % 3
    mask = torch.arange(5) < torch.arange(11)[:, None] % 5 + 1
    rows = torch.arange(11)
    parts = [Batch(ids[r], mask[r], labels[r], r, None, int(mask[r].sum())) for r in rows.split(cuts)]
    module = InFloat64(net, task)
    module.optimizers = lambda: SimpleNamespace(zero_grad=net.zero_grad, step=lambda: None)  # type: ignore[method-assign, assignment, return-value]
    constant = torch.optim.lr_scheduler.ConstantLR(torch.optim.SGD(net.parameters(), 0.1))
    constant.optimizer._opt_called = True
    module.lr_schedulers = lambda: constant  # type: ignore[method-assign]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, misc]
    outputs = module.training_step(GlobalBatch(parts, 11), 0)
    assert net.head.weight.grad is not None
    return float(outputs["loss"]), net.head.weight.grad


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"class_weights": "balanced"}])
@pytest.mark.parametrize("cuts", [[4, 4, 3], [1] * 11, [10, 1]])
def test_micro_batches_do_not_change_the_gradient(cuts: list[int], settings: dict[str, object]) -> None:
    loss, wanted = gradient([11], **settings)
    cut_loss, found = gradient(cuts, **settings)
    assert cut_loss == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


def test_weight_average_swaps_and_restores() -> None:
    module = nn.Linear(3, 2)
    module.device = torch.device("cpu")  # type: ignore[assignment]
    callback = WeightAverage(0.9)
    callback.on_fit_start(None, module)  # type: ignore[arg-type]
    start = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1)
    trained = module.weight.detach().clone()
    callback.on_train_batch_end(None, module, None, None, 0)  # type: ignore[arg-type]
    callback.on_validation_start(None, module)  # type: ignore[arg-type]
    decay = 2 / 11
    torch.testing.assert_close(module.weight.detach(), decay * start + (1 - decay) * trained)
    callback.on_validation_end(None, module)  # type: ignore[arg-type]
    assert torch.equal(module.weight, trained)


def losses(path: Path) -> list[float]:
    with path.open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


GOLDEN = [
    1.098528,
    1.102364,
    1.10666,
    1.054384,
    1.034584,
    0.963148,
    0.859841,
    0.856907,
    0.773379,
    0.726701,
    0.664614,
    0.756002,
]  # of each step; dropout 0, seed 0, fp32 on a CPU
EXACT = [
    "logger=csv",
    "model.dropout=0",
    "model.token_dropout=0",
    "trainer.log_every_n_steps=1",
    "trainer.max_epochs=4",
    "data.batch_size=16",
    "optimizer.lr=0.03",
]


def test_golden_losses_whatever_the_micro_batch(tmp_path: Path) -> None:
    train_tiny(tmp_path, *EXACT)
    whole = losses(tmp_path / "run" / "metrics.csv")
    train_tiny(tmp_path, *EXACT, "hardware.micro_batch=5", f"run_dir={tmp_path / 'cut'}")
    assert losses(tmp_path / "cut" / "metrics.csv") == pytest.approx(whole, rel=1e-5)
    assert whole == pytest.approx(GOLDEN, rel=1e-4)


def test_eight_rows_are_learnt_by_heart(tmp_path: Path) -> None:
    train_tiny(tmp_path)
    write_rows(tmp_path / "train.jsonl", 8)
    more = [
        "trainer.max_epochs=60",
        "optimizer.lr=0.03",
        "model.dropout=0",
        "model.token_dropout=0",
        "logger=csv",
        "trainer.log_every_n_steps=1",
    ]
    valid = [f"data.validation={tmp_path / 'train.jsonl'}", "scheduler=constant", "model.dim=16"]
    result = lx.train(lx.compose(tiny(tmp_path, *more, *valid, f"run_dir={tmp_path / 'overfit'}")))
    assert losses(tmp_path / "overfit" / "metrics.csv")[-1] < 0.05
    assert result.metrics["val/accuracy"] == 1


def test_from_python(tmp_path: Path) -> None:
    result = train_tiny(tmp_path)
    assert result.status == "finished"
    assert {"val/accuracy", "test/accuracy", "test/f1_macro"} <= result.metrics.keys()
    assert result.objective == result.metrics["val/accuracy"]
    (prediction,) = lx.load(result.run_dir).predict(["bread onion soup"])
    assert prediction.label in ("food", "music", "space")
