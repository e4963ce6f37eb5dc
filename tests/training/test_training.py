"""One optimizer step, and the average of the weights, against what is known of them."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import lx
from lx.config.instantiate import build_network
from lx.config.session import conf_dir
from lx.data.batches import Batch, GlobalBatch
from lx.tasks.classification import Classification
from lx.training.callbacks.ema import WeightAverage
from lx.training.module import TextClassifier
from support.one_step import InFloat64, with_a_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
POOLINGS = sorted(path.stem for path in (conf_dir() / "model" / "pooling").glob("*.yaml") if path.stem != "auto")


class Linear(nn.Module):
    """Mean of one-hot tokens, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(7, 3, dtype=torch.float64)

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor, token_types: None) -> torch.Tensor:
        features = nn.functional.one_hot(token_ids, 7).double() * mask[..., None]
        return self.head(features.sum(1) / mask.sum(1, keepdim=True))


NO_EXAMPLES = torch.zeros(0, dtype=torch.int64)
EMPTY = Batch(
    torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool), NO_EXAMPLES, NO_EXAMPLES, None, 0
)


def gradient(cuts: list[int], **settings: object) -> tuple[float, float, torch.Tensor]:
    """Loss, correct answers and gradient of one training step over 11 examples in micro-batches of these sizes."""
    torch.manual_seed(0)
    net, task = Linear(), Classification(["a", "b", "c"], [5, 3, 3], **settings)  # type: ignore[arg-type]
    ids, labels = torch.randint(1, 7, (11, 5)), torch.arange(11) % 3
    mask = torch.arange(5) < torch.arange(11)[:, None] % 5 + 1
    rows = torch.arange(11)
    parts = [
        Batch(ids[r], mask[r], labels[r], r, None, int(mask[r].sum())) if len(r) else EMPTY for r in rows.split(cuts)
    ]
    module = with_a_trainer(InFloat64(net, task))
    outputs = module.training_step(GlobalBatch(parts, 11, int(mask.sum())), 0)
    assert net.head.weight.grad is not None
    return float(outputs["loss"]), float(outputs["counts"]["accuracy"]), net.head.weight.grad


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"class_weights": "balanced"}])
@pytest.mark.parametrize("cuts", [[4, 4, 3], [1] * 11, [10, 1], [0, 11], [4, 0, 7], [11, 0, 0]], ids=str)
def test_micro_batches_do_not_change_the_gradient(cuts: list[int], settings: dict[str, object]) -> None:
    """Nor do stand-ins, those of size 0."""
    loss, correct, wanted = gradient([11], **settings)
    cut_loss, cut_correct, found = gradient(cuts, **settings)
    assert cut_loss == pytest.approx(loss, rel=1e-12)
    assert cut_correct == correct > 0
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("override", ["model=tiny", "model=bag", *[f"model/pooling={name}" for name in POOLINGS]])
def test_no_network_learns_from_an_empty_batch(override: str) -> None:
    cfg = lx.compose(["model=tiny", override])
    torch.manual_seed(0)
    net = build_network(cfg.model, vocab_size=11, num_outputs=3, num_token_types=1)
    task = Classification(["a", "b", "c"], [5, 3, 3], label_smoothing=0.1, class_weights="balanced")
    module = with_a_trainer(TextClassifier(net, task))
    assert module(EMPTY).shape == (0, 3)
    losses, counts = module.backward_all(GlobalBatch([EMPTY], 11, 0))
    assert (losses[0].shape, int(counts["accuracy"])) == ((0,), 0)
    gradients = [weight.grad for weight in net.parameters() if weight.requires_grad]
    assert all(grad is not None and not grad.any() for grad in gradients), "there, for the other ranks, and all zero"


def test_an_empty_batch_does_not_change_the_metrics() -> None:
    module = InFloat64(Linear(), Classification(["a", "b", "c"], [1, 1, 1]))
    module.log_dict = lambda scalars, logger: None  # type: ignore[method-assign, assignment]
    ids, labels = torch.randint(1, 7, (11, 5), generator=torch.Generator().manual_seed(0)), torch.arange(11) % 3
    batch = Batch(ids, torch.ones(11, 5, dtype=torch.bool), labels, torch.arange(11), None, 55)
    found = []
    for batches in ([batch], [EMPTY, batch, EMPTY]):
        for part in batches:
            module.validation_step(part, 0)
        module.on_validation_epoch_end()
        found.append(module.evaluations["val"])
    assert found[0] == found[1]
    assert found[0].scalars["loss"] > 0 and sum(map(sum, found[0].details["confusion_matrix"])) == 11


def followed(decay: float) -> tuple[nn.Linear, torch.optim.Optimizer, WeightAverage]:
    """A layer, an optimizer that adds 1 to each weight, and the average that follows."""
    module = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(module.parameters(), lr=1)
    for weight in module.parameters():
        weight.grad = -torch.ones_like(weight)
    return module, optimizer, WeightAverage(decay)


def test_weight_average_swaps_and_restores() -> None:
    module, optimizer, callback = followed(0.9)
    start = module.weight.detach().clone()
    callback.on_train_start(SimpleNamespace(optimizers=[optimizer]), module)  # type: ignore[arg-type]
    optimizer.step()
    trained = module.weight.detach().clone()
    assert torch.equal(trained, start + 1)
    callback.on_validation_start(None, module)  # type: ignore[arg-type]
    decay = 2 / 11
    torch.testing.assert_close(module.weight.detach(), decay * start + (1 - decay) * trained)
    callback.on_validation_end(None, module)  # type: ignore[arg-type]
    assert torch.equal(module.weight, trained)


def test_weight_average_goes_on_from_a_checkpoint() -> None:
    """Three steps with the average taken down and brought back after the second, as without."""
    found = []
    for interrupted in (False, True):
        torch.manual_seed(3)
        module, optimizer, callback = followed(0.15)  # below what the growing decay is at its second step
        callback.on_train_start(SimpleNamespace(optimizers=[optimizer]), module)  # type: ignore[arg-type]
        optimizer.step()
        optimizer.step()
        if interrupted:
            saved = copy.deepcopy(callback.state_dict())
            optimizer = torch.optim.SGD(module.parameters(), lr=1)
            callback = WeightAverage(0.15)
            callback.load_state_dict(saved)
            callback.on_train_start(SimpleNamespace(optimizers=[optimizer]), module)  # type: ignore[arg-type]
        optimizer.step()
        callback.on_validation_start(None, module)  # type: ignore[arg-type]
        found.append(module.weight.detach().clone())
    assert torch.equal(*found)
