"""An exponential moving average of the weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lx.distributed.fsdp import full_on_first_rank, reshard, shard_like


class WeightAverage(Callback):
    """Validates, and keeps the best checkpoint of, an exponential moving average of the weights.

    After each optimizer step ``average = decay * average + (1 - decay) * weights`` (Polyak and Juditsky 1992; the
    exponential form as in Tarvainen and Valpola 2017), with the decay growing as ``(1 + step) / (10 + step)`` at first,
    so that the random initial weights are soon forgotten. While validation runs the network holds the average;
    training always goes on from its own weights.

    Args:
        decay: of the average, below 1.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.averages: list[Tensor] = []
        self.num_updates = 0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weights = self._weights(pl_module)
        if self.averages:
            pairs = zip(weights, self.averages, strict=True)
            self.averages = [shard_like(weight, average) for weight, average in pairs]
        else:
            self.averages = [weight.clone() for weight in weights]
        trainer.optimizers[0].register_step_post_hook(partial(self._update, weights))

    @torch.no_grad()
    def _update(self, weights: list[Tensor], optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Move the average towards the new weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_(self.averages, weights, 1 - decay)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(pl_module)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(pl_module)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"averages": [full_on_first_rank(average) for average in self.averages], "num_updates": self.num_updates}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.averages, self.num_updates = state_dict["averages"], state_dict["num_updates"]

    @torch.no_grad()
    def _swap(self, pl_module: LightningModule) -> None:
        reshard(pl_module)
        weights = self._weights(pl_module)
        previous = [weight.clone() for weight in weights]
        for weight, average in zip(weights, self.averages, strict=True):
            weight.copy_(shard_like(weight, average))  # it is whole where a run that goes on has nothing left to train
        self.averages = previous

    @staticmethod
    def _weights(pl_module: LightningModule) -> list[Tensor]:
        return [weight.detach() for weight in pl_module.parameters() if weight.requires_grad]
