"""Which strategy trains, and how its ranks combine gradients; one rank shows the choice, tests of several the sums."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import lx
from lx.distributed.fsdp import ShardedStrategy, full_tensor
from lx.distributed.gradient_sync import GradientSync, ReplicatedSync, ShardedSync, gradient_sync
from lx.distributed.rank_info import RankInfo
from lx.system.hardware import resolve
from lx.training.run_length import RunLength
from lx.training.trainer import build_trainer


@pytest.mark.parametrize(
    ("strategy", "num_ranks", "expected", "inference_mode"),
    [
        ("auto", 1, SingleDeviceStrategy, True),
        ("auto", 2, DDPStrategy, True),
        ("fsdp", 1, SingleDeviceStrategy, False),
        ("fsdp", 2, ShardedStrategy, False),
    ],
)
def test_the_strategy_follows_from_settings_and_ranks(
    strategy: str, num_ranks: int, expected: type, inference_mode: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that an evaluation gathered in inference mode could not be sharded again."""
    cfg = lx.compose(["hardware=cpu", f"hardware.strategy={strategy}"])
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": num_ranks}.items():
        monkeypatch.setenv(name, str(value))
    rank_info = RankInfo(0, num_ranks, 0, num_ranks)
    trainer = build_trainer(cfg, resolve("cpu", "32-true"), RunLength(1, 1, 1), [], [], rank_info)
    assert type(trainer.strategy) is expected
    assert trainer.validate_loop.inference_mode == trainer.test_loop.inference_mode == inference_mode


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def wrapped(kind: str, net: nn.Module) -> nn.Module:
    """What a strategy trains; a sharded network is changed in place."""
    if kind == "fsdp":
        fully_shard(net, mesh=dist.init_device_mesh("cpu", (1,)))
    return DistributedDataParallel(net) if kind == "ddp" else net


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize(("kind", "expected"), [("none", GradientSync), ("ddp", ReplicatedSync), ("fsdp", ShardedSync)])
def test_gradients_accumulate_to_the_same_norm(kind: str, expected: type) -> None:
    torch.manual_seed(0)
    reference = nn.Linear(7, 5)
    net, inputs = deepcopy(reference), torch.randn(2, 3, 7)
    reference(inputs).square().sum().backward()
    model = wrapped(kind, net)
    sync = gradient_sync(model, net, world_size=3)
    assert type(sync) is expected
    assert sync.loss_scale == 3
    with sync.no_sync():
        model(inputs[0]).square().sum().backward()
    model(inputs[1]).square().sum().backward()
    gradients = [parameter.grad for parameter in reference.parameters()]
    torch.testing.assert_close(sync.grad_norm(net), nn.utils.get_total_norm(gradients))  # type: ignore[arg-type]
    for parameter, other in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(full_tensor(parameter.grad), other.grad)


@pytest.mark.usefixtures("one_rank")
def test_replicas_do_not_talk_within_no_sync() -> None:
    net = nn.Linear(7, 5)
    model = DistributedDataParallel(net)
    sync = gradient_sync(model, net, world_size=1)
    assert model.require_backward_grad_sync
    with sync.no_sync():
        assert not model.require_backward_grad_sync
    assert model.require_backward_grad_sync
