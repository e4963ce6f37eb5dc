"""How the ranks of a run combine their gradients: one object, chosen once when training starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from lx.distributed.fsdp import full_tensor


class GradientSync:
    """One process: there is nothing to combine.

    Attributes:
        loss_scale: factor of each rank's loss, so that gradients add up where the ranks average them.
    """

    def __init__(self, loss_scale: int = 1) -> None:
        self.loss_scale = loss_scale

    def no_sync(self) -> AbstractContextManager[None]:
        """Accumulate gradients on each rank while the block runs."""
        return nullcontext()

    def grad_norm(self, net: nn.Module) -> Tensor:
        """Return the Euclidean norm of the whole gradient; with shards, every rank must call this."""
        norm: Tensor = full_tensor(nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None]))
        return norm


class ReplicatedSync(GradientSync):
    """Full weights on every rank (DDP)."""

    def __init__(self, loss_scale: int, model: DistributedDataParallel) -> None:
        super().__init__(loss_scale)
        self._model = model

    @override
    def no_sync(self) -> AbstractContextManager[None]:
        return self._model.no_sync()


class ShardedSync(GradientSync):
    """A shard of the weights on every rank (FSDP)."""

    def __init__(self, loss_scale: int, net: FSDPModule) -> None:
        super().__init__(loss_scale)
        self._net = net

    @override
    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self._net.set_requires_gradient_sync(False)
        yield
        self._net.set_requires_gradient_sync(True)


def gradient_sync(model: nn.Module | None, net: nn.Module, world_size: int) -> GradientSync:
    """Choose by how the strategy has wrapped the module.

    Args:
        model: what Lightning's strategy trains: the module, or torch's wrapper of it.
        net: the network in it.
        world_size: number of ranks.
    """
    if isinstance(model, DistributedDataParallel):
        return ReplicatedSync(world_size, model)
    return ShardedSync(world_size, net) if isinstance(net, FSDPModule) else GradientSync(world_size)
