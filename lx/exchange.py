"""Gradients added up in memory that all ranks of a machine see.

gloo passes them through sockets, so that each byte is copied several times, and on a CPU by the cores that compute.
"""
# Annotations are not postponed here: DistributedDataParallel compares those of a hook with its own classes.

import os
import secrets
from pathlib import Path

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from lx.distributed import Place, barrier, scatter, smallest


class ReplicatedStrategy(DDPStrategy):
    """Whole weights on every rank.

    Args:
        place: of this process.
    """

    def __init__(self, place: Place) -> None:
        # Looking for unused parameters keeps the order in which gradients are added up the same from the first step
        # on, so that a resumed run adds them up alike; buffers are no business of an evaluation whose ranks have
        # unequal shares.
        super().__init__(find_unused_parameters=True, gradient_as_bucket_view=True, broadcast_buffers=False)
        self._place = place

    def configure_ddp(self) -> None:
        """Wrap the module; ranks on the CPUs of one machine share memory."""
        super().configure_ddp()
        assert isinstance(self.model, DistributedDataParallel)
        if self.root_device.type != "cpu" or self._place.num_nodes > 1:
            return
        size = sum(p.numel() * p.element_size() for p in self.model.parameters() if p.requires_grad)
        memory = shared_memory(self._place, size)
        if memory is not None:
            self.model.register_comm_hook(memory, average)


def shared_memory(place: Place, num_bytes: int) -> Tensor | None:
    """Memory that the ranks of one machine all see, a row for each; it takes up room once it is written to.

    Its file has no name in the file system, so that it is gone with the last of the processes, however that ends.

    Args:
        place: of this process; all ranks are on one machine.
        num_bytes: of a row.

    Returns:
        Bytes, ``[world_size, num_bytes]``; None, for all ranks, if one cannot see it.
    """
    size = place.world_size * num_bytes
    name = f"lx-{secrets.token_hex(8)}"
    descriptor = -1
    if place.is_first and hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name)
        os.truncate(descriptor, size)
    here = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    path, name = scatter([(here, name)] * place.world_size if place.is_first else [])
    # In a container of its own a rank would find other processes by these numbers.
    found = path.is_symlink() and str(path.readlink()).startswith(f"/memfd:{name} ")
    memory = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8) if found else None
    found_by_all = smallest(int(found)) == 1
    if descriptor >= 0:
        os.close(descriptor)
    return memory.view(place.world_size, num_bytes) if memory is not None and found_by_all else None


def average(memory: Tensor, bucket: dist.GradBucket) -> Future[Tensor]:
    """Average a bucket of gradients over the ranks, in place: a communication hook of DistributedDataParallel.

    Each rank is responsible for one share of the bucket: it adds up what all have there and shows them the result.

    Args:
        memory: What `shared_memory` returned; a row has room for the bucket.
        bucket: Of the same size on all ranks.
    """
    gradient = bucket.buffer()
    rank, world_size = dist.get_rank(), dist.get_world_size()
    others = [other for other in range(world_size) if other != rank]
    mine = gradient.tensor_split(world_size)
    shown = [row[: gradient.nbytes].view(gradient.dtype).tensor_split(world_size) for row in memory]
    for other in others:
        shown[rank][other].copy_(mine[other])
    barrier()
    for other in others:
        mine[rank].add_(shown[other][rank])
    shown[rank][rank].copy_(mine[rank].div_(world_size))
    barrier()
    for other in others:
        mine[other].copy_(shown[other][other])
    barrier()  # the next bucket is written over this one
    done: Future[Tensor] = Future()
    done.set_result(gradient)
    return done
