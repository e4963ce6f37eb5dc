"""Muon for the hidden matrices, AdamW for everything else, as one optimizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from typing_extensions import override


class Muon(torch.optim.Optimizer):
    """Step the hidden matrices with ``torch.optim.Muon`` and the other parameters with ``torch.optim.AdamW``.

    Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) orthogonalises the momentum of a matrix before
    the step. It is meant for maps between hidden states; embeddings, the output layer, norms and biases keep AdamW. The
    update is scaled to AdamW's usual size (Liu et al. 2025, "Muon is Scalable for LLM Training", equation 4), so that
    both optimizers share one learning rate and one schedule.

    Args:
        groups: from :func:`lx.optim.groups.parameter_groups`. The hidden matrices are those of the group "decay"
            without the last one, a classifier's output layer; of each member of an ensemble without its last one. They
            become the group "hidden".
        lr: peak learning rate of both optimizers.
        weight_decay: of groups that do not set their own; decoupled in both optimizers.
        momentum: decay rate of Muon's running mean of the gradient.
        nesterov: look ahead along the momentum before orthogonalising.
        ns_steps: Newton-Schulz iterations of the orthogonalisation.
        betas: AdamW's decay rates.
        eps: AdamW's addition to the denominator.
        fused: AdamW's update in one pass over memory (CPU, CUDA, MPS).

    Raises:
        ValueError: a group has no ``name``.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        fused: bool = True,
    ) -> None:
        # torch's optimizers fill their own options into the same dictionaries that `param_groups` holds.
        super().__init__(_with_hidden_group(groups), {"lr": lr, "weight_decay": weight_decay})
        hidden, rest = self._split_groups()
        self._optimizers: list[torch.optim.Optimizer] = []
        if hidden:
            self._optimizers.append(
                torch.optim.Muon(
                    hidden,
                    momentum=momentum,
                    nesterov=nesterov,
                    ns_steps=ns_steps,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if rest:
            self._optimizers.append(torch.optim.AdamW(rest, betas=betas, eps=eps, fused=fused))

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Loading a checkpoint replaces the groups and the state of this object, so both are passed on at every step.
        groups_of_optimizers = [groups for groups in self._split_groups() if groups]
        for optimizer, groups in zip(self._optimizers, groups_of_optimizers, strict=True):
            optimizer.param_groups = groups
            optimizer.state = self.state
            optimizer.step()
        return loss

    def _split_groups(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return Muon's groups and AdamW's."""
        hidden = [group for group in self.param_groups if group["name"] == "hidden"]
        rest = [group for group in self.param_groups if group["name"] != "hidden"]
        return hidden, rest


def _with_hidden_group(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move the hidden matrices of the group "decay" into a group "hidden" with the same settings."""
    result: list[dict[str, Any]] = []
    for group in groups:
        if "name" not in group:
            raise ValueError("Muon takes the groups of lx.optim.groups.parameter_groups: each has a name")
        if group["name"] != "decay":
            result.append(group)
            continue
        matrices = [index for index, parameter in enumerate(group["params"]) if parameter.ndim == 2]
        last_of_members = {_member(group["param_names"][index]): index for index in matrices}
        hidden = set(matrices) - set(last_of_members.values())
        others = set(range(len(group["params"]))) - hidden
        subgroups = [_subgroup(group, "hidden", hidden), _subgroup(group, "decay", others)]
        result.extend(subgroup for subgroup in subgroups if subgroup["params"])
    return result


def _member(parameter_name: str) -> str:
    """Return what the names of an ensemble member's parameters begin with; nothing of a single network."""
    prefix = re.match(r"members\.\d+\.", parameter_name)
    return prefix[0] if prefix else ""


def _subgroup(group: dict[str, Any], name: str, indices: set[int]) -> dict[str, Any]:
    return {
        **group,
        "name": name,
        "params": [group["params"][index] for index in sorted(indices)],
        "param_names": [group["param_names"][index] for index in sorted(indices)],
    }
