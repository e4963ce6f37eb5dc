"""Ranks with whole weights, and what those on the CPUs of one machine share.

gloo passes gradients through sockets, where each byte is copied several times, on a CPU by the cores that compute.
Ranks of one machine see the same memory instead, and in it is one copy of the weights for all of them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from lx.distributed.process_group import Place, barrier, gather_on_first, scatter, smallest, sum_over_ranks
from lx.kernels import gradients

_ALIGNMENT = 64  # bytes: where a parameter begins, as torch's own allocator has it


class ReplicatedStrategy(DDPStrategy):
    """Whole weights on every rank.

    Args:
        place: of this process.
        divides_steps: whether the optimizer moves each parameter by what it knows of that one alone, so that ranks may
            move a part of them each.
    """

    def __init__(self, place: Place, divides_steps: bool) -> None:
        # Looking for unused parameters keeps the order in which gradients are added up the same from the first step
        # on, so that a resumed run adds them up alike; buffers are no business of an evaluation whose ranks have
        # unequal shares.
        super().__init__(find_unused_parameters=True, gradient_as_bucket_view=True, broadcast_buffers=False)
        self._place = place
        self._divides_steps = divides_steps
        self._keeps_to_itself = False
        self.shared: SharedWeights | None = None

    def configure_ddp(self) -> None:
        """Let ranks on the CPUs of one machine share the weights; wrap the module for others."""
        assert self.model is not None
        if self._divides_steps and self.root_device.type == "cpu" and self._place.num_nodes == 1:
            self.shared = SharedWeights.of(list(self.model.parameters()), self._place)
        if self.shared is None:
            super().configure_ddp()

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let gradients add up on each rank while the block runs."""
        if isinstance(self.model, DistributedDataParallel):
            with self.model.no_sync():
                yield
        else:
            self._keeps_to_itself = True
            yield
            self._keeps_to_itself = False

    def post_backward(self, closure_loss: Tensor) -> None:
        """Add up the gradients, where the module's wrapper does not average them."""
        super().post_backward(closure_loss)
        if self.shared is not None and not self._keeps_to_itself:
            self.shared.sum_gradients()

    def setup_optimizers(self, trainer: Trainer) -> None:
        """Let every step end when all ranks have moved the weights that they own."""
        super().setup_optimizers(trainer)
        if self.shared is not None:
            for optimizer in self.optimizers:
                optimizer.register_step_post_hook(lambda *_: barrier())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's state; every rank must ask where they share the weights, and the first knows it whole."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        if self.shared is not None:
            parts = gather_on_first(state["state"])
            state["state"] = dict(sorted((entry for part in parts for entry in part.items()), key=itemgetter(0)))
        return state

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load what the optimizer of this rank needs to know."""
        super().load_optimizer_state_dict(checkpoint)
        if self.shared is not None:
            for optimizer in self.optimizers:
                for parameter in self.shared.of_others:
                    optimizer.state.pop(parameter, None)

    def teardown(self) -> None:
        """Leave weights behind that are this rank's own."""
        if self.shared is not None:
            self.shared.part()
            self.shared = None
        super().teardown()


class SharedWeights:
    """Parameters of which the ranks of one machine have one copy together.

    Each is owned by one rank. After the backward pass it adds up the gradients that the ranks have of what it owns, and
    moves it; the others look on, and keep neither that gradient nor what the optimizer knows of it (Rajbhandari et al.
    2020, stage 2). A weight changes only while all ranks are between `sum_gradients` and the barrier after the step,
    and what a rank shows of its gradients only outside of that.

    Args:
        parameters: on the CPU, in the same order on all ranks; those of the first rank count.
        place: of this process; all ranks are on one machine.
        memory: what `shared_memory` returned, with room for the weights, for a gradient of each rank, and for what says
            who has which.

    Attributes:
        parameters: as given.
        owners: the rank of each.
        of_others: those that this rank does not own, and where it shows their owners its gradient.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], place: Place, memory: Tensor) -> None:
        self.parameters = parameters
        self.owners = _divide([p.numel() if p.requires_grad else 0 for p in parameters], place.world_size)
        self._place = place
        size, ranks = _row_size(parameters), place.world_size
        rows, flags = memory[: (1 + ranks) * size].view(-1, size), memory[(1 + ranks) * size :]
        weights, *self._shown = (_views(row, parameters) for row in rows)
        self._has_gradient = flags.view(torch.bool).view(ranks, len(parameters))
        for parameter, weight in zip(parameters, weights, strict=True):
            if place.is_first:
                weight.copy_(parameter.detach())
            parameter.data = weight
        shown = zip(parameters, self._shown[place.rank], self.owners, strict=True)
        self.of_others = {parameter: gradient for parameter, gradient, owner in shown if owner != place.rank}
        self._offer_room()
        barrier()

    @classmethod
    def of(cls, parameters: Sequence[nn.Parameter], place: Place) -> SharedWeights | None:
        """Share parameters; None, for all ranks, if one of them cannot see the memory."""
        ranks = place.world_size
        memory = shared_memory(place, (1 + ranks) * _row_size(parameters) + ranks * len(parameters))
        return None if memory is None else cls(parameters, place, memory)

    @torch.no_grad()
    def sum_gradients(self) -> None:
        """Add up the gradients of all ranks; each is left with those of the parameters that it owns.

        A rank that has no gradient of a parameter counts as one with zeros, unless none has one.
        """
        rank = self._place.rank
        self._has_gradient[rank] = torch.tensor([p.grad is not None for p in self.parameters])
        for parameter, shown in self.of_others.items():
            if parameter.grad is not None:
                if parameter.grad.data_ptr() != shown.data_ptr():
                    shown.copy_(parameter.grad)
                parameter.grad = None
        self._offer_room()
        barrier()
        for index, has_gradient in enumerate(self._has_gradient.T.tolist()):
            if self.owners[index] == rank and any(has_gradient):
                parameter = self.parameters[index]
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                for other in [self._shown[r][index] for r, has in enumerate(has_gradient) if has and r != rank]:
                    gradient.add_(other)
                parameter.grad = gradient

    def _offer_room(self) -> None:
        """Spare the kernels' gradients the copy into the memory that others see."""
        for parameter, shown in self.of_others.items():
            gradients.offer(parameter, shown)

    @torch.no_grad()
    def gradient_norm(self) -> Tensor:
        """The Euclidean norm of the whole gradient, on every rank the same to the last bit."""
        own = {index: p.grad for index, p in enumerate(self.parameters) if p.grad is not None}
        norms = torch.zeros(len(self.parameters), dtype=torch.float64)
        for index, norm in zip(own, torch._foreach_norm(list(own.values())), strict=True):
            norms[index] = norm
        sum_over_ranks(norms)  # each is one rank's
        # To the last bit what torch.nn.utils.get_total_norm finds, which wants all gradients on one rank.
        there = norms[self._has_gradient.any(0)].to(self.parameters[0].dtype)
        total: Tensor = torch.linalg.vector_norm(there)
        return total

    def part(self) -> None:
        """Give this rank weights of its own, of the same values."""
        for parameter in self.of_others:
            gradients.offer(parameter, None)
        for parameter in self.parameters:
            parameter.data = parameter.detach().clone()


def shared_memory(place: Place, num_bytes: int) -> Tensor | None:
    """Memory that the ranks of one machine all see, of zeros; it takes up room once it is written to.

    Its file has no name in the file system, so that it is gone with the last of the processes, however that ends.

    Args:
        place: of this process; all ranks are on one machine.
        num_bytes: its size.

    Returns:
        Bytes, ``[num_bytes]``; None, for all ranks, if one cannot see them.
    """
    name = f"lx-{secrets.token_hex(8)}"
    descriptor = -1
    if place.is_first and hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name)
        os.truncate(descriptor, num_bytes)
    here = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    path, name = scatter([(here, name)] * place.world_size if place.is_first else [])
    # In a container of its own a rank would find other processes by these numbers.
    found = path.is_symlink() and str(path.readlink()).startswith(f"/memfd:{name} ")
    memory = torch.from_file(str(path), shared=True, size=num_bytes, dtype=torch.uint8) if found else None
    found_by_all = smallest(int(found)) == 1
    if descriptor >= 0:
        os.close(descriptor)
    return memory if found_by_all else None


def _row_size(parameters: Sequence[nn.Parameter]) -> int:
    return sum(map(_aligned_size, parameters))


def _aligned_size(parameter: Tensor) -> int:
    return -(-parameter.nbytes // _ALIGNMENT) * _ALIGNMENT


def _views(row: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Tensors like the parameters in a row of bytes, one behind the other."""
    parts = row.split_with_sizes([_aligned_size(p) for p in parameters])
    return [part[: p.nbytes].view(p.dtype).view(p.shape) for part, p in zip(parts, parameters, strict=True)]


def _divide(sizes: Sequence[int], world_size: int) -> list[int]:
    """An owner for each, so that all ranks own about as much: the largest goes first, to whoever has least yet."""
    owners, owned = [0] * len(sizes), [0] * world_size
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        owner = min(range(world_size), key=lambda rank: owned[rank])
        owners[index] = owner
        owned[owner] += sizes[index]
    return owners
