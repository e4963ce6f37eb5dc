"""Weights sharded over ranks (FSDP: Rajbhandari et al. 2020, stage 3; torch's ``fully_shard``), and gathered again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from typing_extensions import override


class ShardedStrategy(ModelParallelStrategy):
    """Train sharded weights; checkpoints hold full tensors, so that any number of ranks can resume from them."""

    def __init__(self, world_size: int) -> None:
        super().__init__(world_size, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        state: dict[str, Any] = optimizer.state_dict()
        full = {
            index: {name: full_on_first_rank(value) for name, value in values.items()}
            for index, values in state["state"].items()
        }
        return {**state, "state": full}

    @override
    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        checkpoint: dict[str, Any] = torch.load(Path(checkpoint_path), map_location="cpu", weights_only=True, mmap=True)
        assert self.model is not None
        load_full_state_dict(self.model, checkpoint.pop("state_dict"))
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(_shard_optimizer_state(optimizer, state))
        return checkpoint


def _shard_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """Shard a full optimizer state as the optimizer's parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    indices = [index for group in state["param_groups"] for index in group["params"]]
    sharded = {
        index: {name: shard_like(parameter, value) for name, value in state["state"][index].items()}
        for index, parameter in zip(indices, parameters, strict=True)
        if index in state["state"]
    }
    return {**state, "state": sharded}


def shard_like(parameter: Tensor, value: Any) -> Any:
    """Move a full tensor to a parameter's device and shard it as the parameter is; return anything else unchanged."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    if isinstance(parameter, DTensor):
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value.to(parameter.device)


def full_tensor(value: Any) -> Any:
    """Gather a sharded tensor, for which every rank must call this; return anything else unchanged."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def full_on_first_rank(value: Any) -> Any:
    """Gather a sharded tensor into the CPU memory of the first rank, so that no device holds more than one at a time.

    Every rank must call this.

    Returns:
        The full tensor; on the other ranks an empty one, and anything else unchanged.
    """
    if not isinstance(value, DTensor):
        return value
    full = value.full_tensor()
    return full.cpu() if value.device_mesh.get_rank() == 0 else full.new_empty(0)


def shard(net: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every layer of a network's ``nn.ModuleList`` stacks, then the rest of it; a second call does nothing."""
    if isinstance(net, FSDPModule):
        return
    stacks = [module for module in net.modules() if isinstance(module, nn.ModuleList)]
    for stack in reversed(stacks):  # the innermost first, as fully_shard asks
        for layer in stack:
            fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)


def is_sharded(net: nn.Module) -> bool:
    """Return whether each rank holds only a shard of the weights of a network, or of a module around it."""
    return any(isinstance(module, FSDPModule) for module in net.modules())


def reshard(net: nn.Module) -> None:
    """Free the full weights that an evaluation has gathered, so that every parameter is this rank's shard again.

    A backward pass does this by itself.
    """
    for module in net.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def full_state_dict(net: nn.Module) -> dict[str, Tensor]:
    """Return the weights by name; with shards every rank must call this, and the first gets them, on the CPU."""
    if not is_sharded(net):
        return net.state_dict()
    reshard(net)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights: dict[str, Any] = get_model_state_dict(net, options=options)
    return weights


def load_full_state_dict(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load full weights, which every rank has."""
    if is_sharded(net):
        reshard(net)
        set_model_state_dict(net, dict(weights), options=StateDictOptions(full_state_dict=True))
    else:
        net.load_state_dict(weights)
