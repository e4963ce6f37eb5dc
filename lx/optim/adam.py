"""Adam and AdamW with torch's fused step, under gradient clipping and in every precision."""

from __future__ import annotations

import torch
from torch.optim.optimizer import ParamsT


class Adam(torch.optim.Adam):
    """Adam (Kingma & Ba 2015, algorithm 1); ``weight_decay`` is an L2 penalty, added to the gradient.

    torch's fused Adam tells a gradient scaler that it undoes the loss scaling inside its own step. Gradients
    could then not be clipped before the step, and Lightning refuses to, even in bf16 where nothing is scaled.
    Here that offer is withdrawn: a scaler unscales first, as for every other optimizer, and clipping works.

    Args:
        params: parameters or parameter groups.
        lr: peak learning rate.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: of groups that do not set their own.
        fused: update each parameter in one pass over memory (CPU, CUDA, MPS; floating-point parameters only).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        fused: bool = True,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused)
        self._step_supports_amp_scaling = False


class AdamW(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019, algorithm 2): Adam whose decay acts on the weights themselves.

    The fused step works with gradient clipping for the reason given in :class:`Adam`.

    Args:
        params: parameters or parameter groups.
        lr: peak learning rate.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: of groups that do not set their own; times ``lr``, the share that a step takes away.
        fused: update each parameter in one pass over memory (CPU, CUDA, MPS; floating-point parameters only).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        fused: bool = True,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused)
        self._step_supports_amp_scaling = False
