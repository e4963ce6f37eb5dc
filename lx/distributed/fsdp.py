"""Weights cut up between ranks (FSDP: Rajbhandari et al. 2020, stage 3; torch's ``fully_shard``), and whole again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from lx.distributed.exchange import ReplicatedStrategy, SharedWeights


class ShardedStrategy(ModelParallelStrategy):
    """Trains sharded weights; the training state is that of whole ones, for any number of ranks to go on from.

    Args:
        world_size: all ranks.
    """

    def __init__(self, world_size: int) -> None:
        super().__init__(world_size, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's state with whole tensors; every rank must ask."""
        state: dict[str, Any] = optimizer.state_dict()
        whole = {
            index: {name: whole_tensor(value) for name, value in of.items()} for index, of in state["state"].items()
        }
        return {**state, "state": whole}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load weights and the optimizer's state, and return the rest."""
        checkpoint: dict[str, Any] = torch.load(Path(checkpoint_path), map_location="cpu", weights_only=True, mmap=True)
        assert self.model is not None
        load_whole_weights(self.model, checkpoint.pop("state_dict"))
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(_cut_state(optimizer, state))
        return checkpoint


def _cut_state(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """A whole optimizer state, cut up as the optimizer's parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    indices = [index for group in state["param_groups"] for index in group["params"]]
    cut = {
        index: {name: like(parameter, value) for name, value in state["state"][index].items()}
        for index, parameter in zip(indices, parameters, strict=True)
        if index in state["state"]
    }
    return {**state, "state": cut}


def like(parameter: Tensor, value: Any) -> Any:
    """A whole tensor, on its parameter's device and cut up as the parameter is; anything else as it is."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    if isinstance(parameter, DTensor):
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value.to(parameter.device)


def whole_tensor(value: Any) -> Any:
    """What was cut up, whole; every rank must ask. Anything else as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def shard(net: nn.Module, mesh: DeviceMesh) -> None:
    """Cut up every layer of a network's stacks, then what is left of it; once.

    Args:
        net: its stacks are ``nn.ModuleList``.
        mesh: the ranks.
    """
    if isinstance(net, FSDPModule):
        return
    for stack in [module for module in net.modules() if isinstance(module, nn.ModuleList)]:
        for layer in stack:
            fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)


def is_sharded(net: nn.Module) -> bool:
    """Whether every rank is needed to see the weights of a network, or of a module around it."""
    return any(isinstance(module, FSDPModule) for module in net.modules())


def cut_again(net: nn.Module) -> None:
    """Cut up what an evaluation has left whole, so that every parameter is this rank's share of it again.

    A backward pass does this by itself.
    """
    for module in net.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole_weights(net: nn.Module) -> dict[str, Tensor]:
    """The weights by name, on the CPU where they are sharded; every rank must ask, the first is answered."""
    if not is_sharded(net):
        return net.state_dict()
    cut_again(net)
    whole: dict[str, Any] = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return whole


def load_whole_weights(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights that every rank holds whole."""
    if is_sharded(net):
        cut_again(net)
        set_model_state_dict(net, dict(weights), options=StateDictOptions(full_state_dict=True))
    else:
        net.load_state_dict(weights)


def shared_weights(strategy: Strategy) -> SharedWeights | None:
    """The weights, if the ranks have one copy of them together."""
    return strategy.shared if isinstance(strategy, ReplicatedStrategy) else None


def needs_all_ranks(strategy: Strategy, net: nn.Module) -> bool:
    """Whether each rank knows only a part of the training state."""
    return is_sharded(net) or shared_weights(strategy) is not None


def loss_weight(trainer: Trainer) -> int:
    """What a rank multiplies its part of the loss with, so that gradients add up even where ranks average them."""
    return trainer.world_size if shared_weights(trainer.strategy) is None else 1


def gradient_norm(strategy: Strategy, net: nn.Module) -> Tensor:
    """The Euclidean norm of the whole gradient, which ranks may have divided; every rank must ask."""
    shared = shared_weights(strategy)
    if shared is not None:
        return shared.gradient_norm()
    return nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])


@contextmanager
def without_synchronization(strategy: Strategy, net: nn.Module) -> Iterator[None]:
    """Let gradients add up on each rank while the block runs."""
    if isinstance(strategy, ReplicatedStrategy):
        with strategy.no_sync():
            yield
    elif isinstance(net, FSDPModule):
        net.set_requires_gradient_sync(False)
        yield
        net.set_requires_gradient_sync(True)
    else:
        yield
