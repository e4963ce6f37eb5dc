"""This process's place among the processes, ranks, that train one run together.

torchrun's launcher, or srun, starts a process for each rank and tells it its place in the environment. A process that
was started by itself is rank 0 of 1, and every function here does nothing then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lx.distributed.neighbours import Neighbours, meet
from lx.errors import RanksLostError
from lx.system.signals import Stopped

T = TypeVar("T")
# A rank that died is noticed by whoever started it, so nobody needs a short timeout; preparing data may take long.
_PATIENCE = timedelta(hours=12)
_neighbours: Neighbours | None = None  # where all ranks are on the CPUs of this machine


@dataclass(frozen=True)
class Place:
    """Which of a run's processes this is.

    Attributes:
        rank: among all, from 0.
        world_size: how many there are.
        local_rank: among those on this machine, from 0.
        local_world_size: how many there are on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @classmethod
    def from_environment(cls) -> Place:
        """The place that torchrun or srun gave this process."""
        if "RANK" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            _speak_torchrun()
        values = (int(os.environ.get(name, default)) for name, default in _VARIABLES)
        return cls(*values)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    @property
    def num_nodes(self) -> int:
        """How many machines take part; each has the same number of ranks."""
        return self.world_size // self.local_world_size


_VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))


def _speak_torchrun() -> None:
    """Translate what srun says into the variables of torchrun."""
    slurm = os.environ
    os.environ.update(
        RANK=slurm["SLURM_PROCID"],
        WORLD_SIZE=slurm["SLURM_STEP_NUM_TASKS"],
        LOCAL_RANK=slurm["SLURM_LOCALID"],
        LOCAL_WORLD_SIZE=slurm["SLURM_STEP_TASKS_PER_NODE"].partition("(")[0],
    )


@contextmanager
def joined(place: Place, accelerator: str, run_dir: Path) -> Iterator[None]:
    """Talk to the other ranks while the block runs; at its good end, wait for them.

    Args:
        place: of this process.
        accelerator: ``cuda`` or ``cpu``: what the tensors that are exchanged lie on.
        run_dir: where ranks meet that srun started: they share no address, but this directory.
    """
    global _neighbours
    if place.world_size == 1:
        yield
        return
    if accelerator == "cuda":
        torch.cuda.set_device(place.local_rank)
    met = run_dir.resolve() / ".ranks-{SLURM_JOB_ID}-{SLURM_STEP_ID}".format_map(_Blanks(os.environ))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if accelerator == "cuda" else "gloo",
        init_method="env://" if "MASTER_ADDR" in os.environ else met.as_uri(),
        rank=place.rank,
        world_size=place.world_size,
        timeout=_PATIENCE,
    )
    try:
        if accelerator == "cpu" and place.num_nodes == 1:
            _neighbours = meet(place.rank, place.world_size, scatter, smallest)
        yield
    except Stopped as stopped:
        if not stopped.together:
            raise
        _leave()
        raise
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise RanksLostError("the connection to the other ranks broke") from error
        raise
    # Whoever fails keeps up the connections until its process has said why and ends: then the others notice.
    _leave()


def _leave() -> None:
    global _neighbours
    barrier()
    if _neighbours is not None:
        _neighbours.part()
        _neighbours = None
    dist.destroy_process_group()


class _Blanks(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


def is_joined() -> bool:
    """Whether there are other ranks to talk to."""
    return dist.is_available() and dist.is_initialized()


def barrier() -> None:
    """Wait for the other ranks, on the CPU."""
    sum_over_ranks(torch.zeros(1))


def sum_over_ranks(values: Tensor) -> Tensor:
    """Add up a tensor over the ranks, in place."""
    if _neighbours is not None and values.device.type == "cpu":
        _neighbours.reduce(values, torch.add)
    elif is_joined():
        dist.all_reduce(values)
    return values


def smallest(value: int) -> int:
    """The smallest of the ranks' values."""
    if not is_joined():
        return value
    values = torch.tensor([value])
    dist.all_reduce(values, op=dist.ReduceOp.MIN)
    return int(values)


def gather(value: T) -> list[T]:
    """The value of every rank, in their order; plain containers only."""
    if not is_joined():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def gather_on_first(value: T) -> list[T]:
    """The value of every rank, in their order, for the first rank; others get none."""
    if not is_joined():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size() if dist.get_rank() == 0 else []
    dist.gather_object(value, values or None)
    return values  # type: ignore[return-value]


def scatter(parts: list[T]) -> T:
    """The part that the first rank has for this one.

    Args:
        parts: of the first rank, one for each; others give none.
    """
    if not is_joined():
        return parts[0]
    mine: list[T | None] = [None]
    dist.scatter_object_list(mine, parts or None)
    return mine[0]  # type: ignore[return-value]


def first_on_each_node(place: Place, work: Callable[[], None]) -> None:
    """Do work that fills a cache on one rank of each machine, then on the others, who find it done."""
    if place.local_rank == 0:
        work()
    barrier()
    if place.local_rank != 0:
        work()


class Agreement:
    """A whole number that all ranks agree on after every step: the largest that any of them named.

    What is named at one step is known at the next, so that nobody waits for an answer.
    """

    def __init__(self) -> None:
        talks_by_gloo = is_joined() and _neighbours is None
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE) if talks_by_gloo else None
        self._named = torch.zeros(1, dtype=torch.int64)
        self._answer: dist.Work | None = None

    def __call__(self, value: int) -> int:
        """Name a value; know the largest that was named at the last call, or at this one if there is one rank."""
        if not is_joined():
            return value
        largest = self.close()
        self._named = torch.tensor([value])
        if _neighbours is not None:
            _neighbours.reduce(self._named, torch.maximum)
        else:
            self._answer = dist.all_reduce(self._named, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return largest

    def close(self) -> int:
        """Wait for the answer that is still under way; the largest value of the last call."""
        if self._answer is not None:
            self._answer.wait()
            self._answer = None
        return int(self._named)
