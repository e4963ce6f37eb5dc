"""Forward pass, loss and metrics of every option on fake CUDA tensors.

They have shapes, dtypes and devices, but no values: an operation on two devices at once is refused, and so is whatever
waits for a value. The backward pass is not covered: autograd asks the real device for its streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import lx
from lx.config.instantiate import build, build_network
from lx.data.batches import Batch
from lx.training.module import TextClassifier
from support.fake_cuda import allow_fake_cuda

CONF = Path(__file__).parents[2] / "conf" / "model"
GROUPS = [
    sorted(f"model/{group.name}={file.stem}" for file in group.iterdir() if file.stem != "auto")
    for group in CONF.glob("*/")
]
# Every option of every group at least once, in as few models as the largest group has options.
MODELS = [[group[i % len(group)] for group in GROUPS] for i in range(max(map(len, GROUPS)))]
CLASSES = {"class_names": ["a", "b", "c"], "class_counts": [3, 2, 1]}
TASKS: dict[str, tuple[dict[str, Any], pa.Array]] = {
    "task=classification": (CLASSES, pa.array([0, 2, 1])),
    "task=multilabel": (CLASSES | {"num_examples": 5}, pa.array([[], [0, 2], [1]], pa.list_(pa.int32()))),
    "task=regression": ({"mean": 1.5, "std": 2.0}, pa.array([0.5, 2.0, 1.0])),
}
TEXTS, TOKENS = 3, 13


@pytest.fixture(autouse=True)
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make autocast believe in a GPU, and modules take new tensors instead of filling their own."""
    allow_fake_cuda()
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_: True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield
    torch.__future__.set_overwrite_module_params_on_conversion(False)


def on_gpu(tensor: Tensor) -> Tensor:
    """A fake tensor like a real one."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")


def built(*overrides: str, num_token_types: int = 1) -> tuple[TextClassifier, Tensor]:
    """A module of small width, and labels; real, on the CPU."""
    cfg = lx.compose(["recipe=plain", *overrides])
    name = next((override for override in overrides if override.startswith("task=")), "task=classification")
    label_set, labels = TASKS[name]
    task = build(cfg.task, "task")(**label_set)
    sizes = {"vocab_size": 37, "num_outputs": task.num_outputs, "num_token_types": num_token_types}
    module = TextClassifier(build_network(cfg.model, **sizes), task)
    return module.requires_grad_(False), task.collate(labels)


def check(module: TextClassifier, labels: Tensor, types: bool = False) -> None:
    """Forward pass, loss and counts of a training step, then an evaluation, in float32 and in mixed precision."""
    ids, mask = torch.ones(TEXTS, TOKENS, dtype=torch.int64), torch.ones(TEXTS, TOKENS, dtype=torch.bool)
    batch = Batch(ids, mask, labels, torch.arange(TEXTS), ids if types else None, TEXTS * TOKENS)
    with FakeTensorMode(), torch.no_grad():
        module._apply(on_gpu)
        batch = batch._map(on_gpu)
        for mixed in (False, True):
            module.train()
            with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
                logits = module(batch)
                loss = module.task.loss(logits, batch.labels)
                counts = module.task.step_counts(logits, batch.labels)
                module.eval()
                module.validation_step(batch, 0)
            assert logits.dtype == loss.dtype == torch.float32
            assert {tensor.device for tensor in (logits, loss, *counts.values())} == {torch.device("cuda", 0)}


@pytest.mark.parametrize("options", MODELS)
def test_every_option_computes_on_one_device_and_waits_for_nothing(options: list[str]) -> None:
    check(
        *built(
            "model=tiny",
            "model.embedding_dim=7",
            "model.token_dropout=0.1",
            "model.conv_width=3",
            *options,
            num_token_types=2,
        ),
        True,
    )


@pytest.mark.parametrize(
    "overrides",
    [
        ["task.class_weights=balanced", "task.label_smoothing=0.1"],
        ["task=multilabel", "task.positive_weights=balanced"],
        ["task=regression", "task.loss=huber"],
    ],
)
def test_every_task(overrides: list[str]) -> None:
    check(*built("model=tiny", *overrides))


def test_a_bag_of_words() -> None:
    check(*built("model=bag"))


class Waiting(nn.Module):
    """Asks for a value, or mixes devices."""

    def __init__(self, net: nn.Module, wait: bool) -> None:
        super().__init__()
        self.net, self.wait = net, wait

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.net(*inputs)
        return logits * int(logits.argmax()) if self.wait else logits + torch.zeros(3)


@pytest.mark.parametrize(("wait", "error"), [(True, DataDependentOutputException), (False, RuntimeError)])
def test_these_tests_see_waits_and_mixed_devices(wait: bool, error: type[Exception]) -> None:
    module, labels = built("model=tiny")
    module.net = Waiting(module.net, wait)
    with pytest.raises(error):
        check(module, labels)
