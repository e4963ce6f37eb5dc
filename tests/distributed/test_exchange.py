"""Ranks of one machine add up gradients in memory that they share, and get what sockets would have given them."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import all_done, final_weights, free_port, ranks, start, train_on_ranks, training
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lx.distributed import Place
from lx.exchange import average, shared_memory

pytestmark = pytest.mark.distributed


class Net(nn.Module):
    """Parameters whose sizes no number of ranks divides, the smallest of them smaller than that number."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.parts = nn.ParameterList(torch.zeros(size, dtype=dtype) for size in (1, 7, 400_003, 100_001))

    def forward(self, factor: float) -> Tensor:
        """A number whose gradient differs from place to place."""
        return torch.stack([(p * torch.arange(len(p)).to(p.dtype).sin()).sum() for p in self.parts]).sum() * factor


def _rank(rank: int, world_size: int, folder: Path, dtype: torch.dtype, blind: int | None) -> None:
    """Two steps through shared memory, if all see it; each rank saves its gradients."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=(folder / "meet").as_uri(), rank=rank, world_size=world_size)
    place = Place(rank, world_size, rank, world_size)
    if rank == blind:
        Path.is_symlink = lambda self: False  # type: ignore[method-assign,assignment]
    net = DistributedDataParallel(Net(dtype), bucket_cap_mb=1, gradient_as_bucket_view=True)
    memory = shared_memory(place, sum(p.nbytes for p in net.parameters()))
    if memory is not None:
        net.register_comm_hook(memory, average)
    found = []
    for step in range(2):
        net.zero_grad()
        net((rank + 1) * 10.0**step).backward()
        found.append(torch.cat([p.grad for p in net.parameters() if p.grad is not None]))
    torch.save((memory is not None, found), folder / f"{rank}.pt")
    del net  # or it would be the last to hold the process group, and end gloo's threads with Python's lock in its hand
    dist.destroy_process_group()


def gradients(
    folder: Path, world_size: int, dtype: torch.dtype, blind: int | None = None
) -> list[tuple[bool, list[Tensor]]]:
    """What each rank had: whether it shared memory, and its gradients after both steps."""
    context = multiprocessing.get_context("forkserver")
    processes = [
        context.Process(target=_rank, args=(rank, world_size, folder, dtype, blind)) for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt") for rank in range(world_size)]


@pytest.mark.parametrize(("world_size", "dtype"), [(2, torch.float32), (3, torch.float64), (3, torch.bfloat16)])
def test_every_rank_gets_the_average(world_size: int, dtype: torch.dtype, tmp_path: Path) -> None:
    alone = Net(dtype)
    alone(1.0).backward()
    one = torch.cat([p.grad for p in alone.parameters() if p.grad is not None])
    found = gradients(tmp_path, world_size, dtype)
    for shared, steps in found:
        assert shared
        for step, gradient in enumerate(steps):
            # The ranks have 1, 2, ... times the gradient of one.
            expected = one.double() * (world_size + 1) / 2 * 10.0**step
            assert torch.allclose(gradient.double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=0)
            assert torch.equal(gradient, found[0][1][step])  # to the last bit, or the ranks would part


def test_sockets_where_one_rank_sees_no_memory(tmp_path: Path) -> None:
    (tmp_path / "blind").mkdir()
    (tmp_path / "seeing").mkdir()
    blind = gradients(tmp_path / "blind", 2, torch.float32, blind=1)
    seeing = gradients(tmp_path / "seeing", 2, torch.float32)
    assert [shared for shared, _ in blind] == [False, False]
    for (_, ours), (_, theirs) in zip(blind, seeing, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_one_machine_learns_what_two_machines_learn(folder: Path) -> None:
    steps = "trainer.max_steps=6"
    train_on_ranks(folder, "one-machine", 2, steps)
    more = ["hardware.num_nodes=2", f"hardware.rdzv_endpoint=127.0.0.1:{free_port()}"]
    all_done(*[start(folder, training("two-machines", *ranks(1, *more), steps)) for _ in range(2)])
    ours, theirs = final_weights(folder / "one-machine"), final_weights(folder / "two-machines")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
