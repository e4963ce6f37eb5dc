"""Talk to the other ranks of a run: collectives that return at once where there is one rank."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lx.distributed.rank_info import RankInfo
from lx.distributed.watch import PeerWatch
from lx.errors import RanksLostError
from lx.system.signals import Stopped

T = TypeVar("T")
# The launcher notices when a rank dies, so a short timeout gains nothing, and preparing data may take long.
_TIMEOUT = timedelta(hours=12)


@contextmanager
def process_group(rank_info: RankInfo, device: torch.device, run_dir: Path) -> Iterator[None]:
    """Connect the ranks while the block runs; if it ends well, wait for all of them before disconnecting.

    On failure the group stays open until this process has reported and exited; peers notice then.

    Args:
        rank_info: of this process.
        device: of this process, where the tensors of its collectives lie.
        run_dir: shared by all ranks; those that srun started meet through a file in it.

    Raises:
        RanksLostError: the connection broke.
    """
    if rank_info.world_size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    job, step = (os.environ.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        init_method="env://" if "MASTER_ADDR" in os.environ else (run_dir.resolve() / f".ranks-{job}-{step}").as_uri(),
        rank=rank_info.rank,
        world_size=rank_info.world_size,
        timeout=_TIMEOUT,
    )
    watch = PeerWatch(rank_info.rank, rank_info.world_size, _TIMEOUT) if device.type == "cuda" else None
    try:
        yield
    except Stopped as stopped:
        if not stopped.together:
            raise
        _disconnect(watch)
        raise
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise RanksLostError("the connection to the other ranks broke") from error
        raise
    _disconnect(watch)


def _disconnect(watch: PeerWatch | None) -> None:
    barrier()
    if watch is not None:
        watch.stop()
    dist.destroy_process_group()


def is_initialized() -> bool:
    """Return whether there are other ranks to talk to."""
    return dist.is_available() and dist.is_initialized()


def barrier() -> None:
    """Wait for the other ranks, on the CPU."""
    if is_initialized():
        dist.barrier()


def all_reduce_sum(values: Tensor) -> Tensor:
    """Add up a tensor over the ranks, in place."""
    if is_initialized():
        dist.all_reduce(values)
    return values


def all_reduce_min(value: int) -> int:
    """Return the smallest of the ranks' values."""
    if not is_initialized():
        return value
    values = torch.tensor([value])
    dist.all_reduce(values, op=dist.ReduceOp.MIN)
    return int(values)


def all_gather(value: T) -> list[T]:
    """Return the value of every rank, in their order; plain containers only."""
    if not is_initialized():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def scatter(values: list[T]) -> T:
    """Return the value that the first rank has for this one.

    Args:
        values: on the first rank, one for each rank; on others, empty.
    """
    if not is_initialized():
        return values[0]
    own: list[T | None] = [None]
    dist.scatter_object_list(own, values or None)
    return own[0]  # type: ignore[return-value]


def first_on_each_node(rank_info: RankInfo, work: Callable[[], T]) -> T:
    """Do work that fills a cache on one rank of each machine, then on the others, which find the cache full."""
    if rank_info.local_rank != 0:
        barrier()
        return work()
    result = work()
    barrier()
    return result


class DelayedMax:
    """The largest of the ranks' numbers, one call late, so that no rank waits for the answer.

    Every rank must call it equally often. With one rank there is no delay.
    """

    def __init__(self) -> None:
        # A group of its own: its operations overlap with those of training.
        self._group = dist.new_group(backend="gloo", timeout=_TIMEOUT) if is_initialized() else None
        self._values = torch.zeros(1, dtype=torch.int64)
        self._pending: dist.Work | None = None

    def __call__(self, value: int) -> int:
        """Send a value; return the largest of the values of the call before."""
        if not is_initialized():
            return value
        largest = self.wait()
        self._values = torch.tensor([value])
        self._pending = dist.all_reduce(self._values, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return largest

    def wait(self) -> int:
        """Wait for the answer to the last call and return it."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
        return int(self._values)
