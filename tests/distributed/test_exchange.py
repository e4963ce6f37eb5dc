"""Ranks of one machine share the weights, and learn what sockets would have taught them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lx.distributed.exchange import SharedWeights
from lx.distributed.process_group import Place, barrier, joined, sum_over_ranks
from support.commands import start, training
from support.ranks import assert_all_done, free_port, ranks, train_on_ranks
from support.run_files import assert_same_weights

pytestmark = pytest.mark.distributed
SIZES = (1, 7, 400_003, 100_001)


class Net(nn.Module):
    """Parameters whose sizes no number of ranks divides, one that gets no gradient, and one of the first rank's."""

    def __init__(self, dtype: torch.dtype, value: float = 0.0) -> None:
        super().__init__()
        self.parts = nn.ParameterList(torch.full((size,), value, dtype=dtype) for size in SIZES)
        self.unused = nn.Parameter(torch.zeros(3, dtype=dtype))
        self.of_first = nn.Parameter(torch.zeros(5, dtype=dtype))

    def forward(self, factor: float, is_first: bool) -> Tensor:
        """A number whose gradient differs from place to place."""
        sums = [(p * torch.arange(len(p)).to(p.dtype).sin()).sum() for p in self.parts]
        return torch.stack([*sums, self.of_first.sum() if is_first else torch.zeros_like(sums[0])]).sum() * factor


def _rank(work: Callable[..., Any], place: Place, folder: Path, arguments: tuple[Any, ...]) -> None:
    """Join the others, and save what comes of it."""
    torch.set_num_threads(1)
    with joined(place, "cpu", folder):
        torch.save(work(place, *arguments), folder / f"{place.rank}.pt")


def on_ranks(folder: Path, world_size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function finds on each rank."""
    context = multiprocessing.get_context("forkserver")
    processes = [
        context.Process(target=_rank, args=(work, Place(rank, world_size, rank, world_size), folder, arguments))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt") for rank in range(world_size)]


def _two_steps(place: Place, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor], list[bool]]:
    """Gradient norms, the weights after each of two steps of gradient descent, and what has a gradient."""
    net = Net(dtype, value=float(place.rank))  # those of the first rank count
    shared = SharedWeights.of(list(net.parameters()), place)
    assert shared is not None
    norms, weights = [], []
    for step in range(2):
        net.zero_grad()
        net((place.rank + 1) * 10.0**step, place.is_first).backward()
        shared.sum_gradients()
        norms.append(shared.gradient_norm())
        with torch.no_grad():
            for p in net.parameters():
                if p.grad is not None:
                    p.sub_(p.grad)
        barrier()
        weights.append(torch.cat([p.detach() for p in net.parameters()]))
        barrier()
    shared.part()
    if not place.is_first:
        net.of_first.detach().zero_()  # nobody else's any more
    barrier()
    if place.is_first:
        assert torch.equal(torch.cat([p.detach() for p in net.parameters()]), weights[-1])
    return norms, weights, [p.grad is not None for p in net.parameters()]


@pytest.mark.parametrize(("world_size", "dtype"), [(2, torch.float32), (3, torch.float64), (3, torch.bfloat16)])
def test_ranks_move_the_same_weights(world_size: int, dtype: torch.dtype, tmp_path: Path) -> None:
    found = on_ranks(tmp_path, world_size, _two_steps, dtype)
    alone = Net(dtype)
    tolerance = 8 * torch.finfo(dtype).eps
    for step in range(2):
        alone.zero_grad()
        # The ranks have 1, 2, ... times the gradient of one; the last parameter's is the first rank's alone.
        alone(world_size * (world_size + 1) / 2 * 10.0**step, is_first=True).backward()
        assert alone.of_first.grad is not None
        alone.of_first.grad.fill_(10.0**step)
        with torch.no_grad():
            for p in alone.parameters():
                if p.grad is not None:
                    p.sub_(p.grad)
        norm = nn.utils.get_total_norm([p.grad for p in alone.parameters() if p.grad is not None])
        expected = torch.cat([p.detach() for p in alone.parameters()])
        for norms, weights, _ in found:
            assert float(norms[step]) == pytest.approx(float(norm), rel=tolerance)
            assert torch.allclose(weights[step].double(), expected.double(), rtol=tolerance, atol=tolerance)
            assert torch.equal(weights[step], found[0][1][step]) and torch.equal(norms[step], found[0][0][step])
    # Each parameter is one rank's, but for the first, which has no gradient.
    assert [sum(owned) for owned in zip(*(owned for _, _, owned in found), strict=True)] == [0, 1, 1, 1, 1, 1]


def _sees_memory(place: Place) -> bool:
    if place.rank == 1:
        Path.is_symlink = lambda self: False  # type: ignore[method-assign,assignment]
    net = Net(torch.float32)
    return SharedWeights.of(list(net.parameters()), place) is not None


def test_nothing_is_shared_where_one_rank_sees_no_memory(tmp_path: Path) -> None:
    assert on_ranks(tmp_path, 2, _sees_memory) == [False, False]


def _sums(place: Place) -> list[float]:
    return sum_over_ranks(torch.tensor([place.rank + 1.0, 0.5], dtype=torch.float64)).tolist()


@pytest.mark.parametrize("world_size", [2, 4])
def test_sums_over_ranks(world_size: int, tmp_path: Path) -> None:
    total = world_size * (world_size + 1) / 2
    assert on_ranks(tmp_path, world_size, _sums) == [[total, world_size / 2]] * world_size


@pytest.mark.parametrize(
    "settings",
    [
        [],
        # With kernels, where the processor has them: what they write where others see it must be as good as a copy.
        ["hardware.precision=bf16-mixed", "model.dim=64", "model.num_layers=2"],
        ["hardware.precision=bf16-mixed", "model.dim=64", "model.num_layers=2", "hardware.micro_batch=2"],
    ],
)
def test_one_machine_learns_what_two_machines_learn(settings: list[str], folder: Path, tmp_path: Path) -> None:
    steps = ["trainer.max_steps=6", *settings]
    one, two = tmp_path / "one-machine", tmp_path / "two-machines"
    train_on_ranks(folder, str(one), 2, *steps)
    more = ["hardware.num_nodes=2", f"hardware.rdzv_endpoint=127.0.0.1:{free_port()}"]
    assert_all_done(*[start(folder, training(two, *ranks(1, *more), *steps)) for _ in range(2)])
    assert_same_weights(one, two)
