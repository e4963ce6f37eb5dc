"""Learning-rate schedules: the multiplier of the peak learning rate at each optimizer step.

Steps count from 0: the first update of a run is step 0, the last one is step ``total_steps - 1``. A warmup of W steps
has the multipliers 1/(W+1), ..., W/(W+1) at steps 0 to W-1 and reaches the peak, 1, at step W. A decay reaches its
floor at step ``total_steps``, one after the last update: no update has a learning rate of zero, at either end. Beyond
``total_steps`` the multiplier stays constant.

A length (``warmup``, ``decay``) below 1 is a share of all steps, rounded down; from 1 on it is a number of steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from lx.errors import LxError


@dataclass(frozen=True)
class Schedule(ABC):
    """Map an optimizer step to the multiplier of the learning rate.

    Attributes:
        total_steps: updates of the whole run, at least 1.
        warmup_steps: updates before the peak, at most ``total_steps``.
    """

    total_steps: int
    warmup_steps: int

    def __call__(self, step: int) -> float:
        """Return the multiplier at a step, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return self.after_warmup(min(step, self.total_steps))

    @abstractmethod
    def after_warmup(self, step: int) -> float:
        """Return the multiplier at a step from ``warmup_steps``, where it is 1, to ``total_steps``."""

    def progress(self, step: int) -> float:
        """Return the share of the steps after the warmup that is done: 0 at the peak, 1 at step ``total_steps``."""
        return (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)


@dataclass(frozen=True)
class Constant(Schedule):
    """The peak to the end."""

    @override
    def after_warmup(self, step: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from the peak to the floor ``min_ratio``."""

    min_ratio: float = 0.0

    @override
    def after_warmup(self, step: int) -> float:
        return _above(self.min_ratio, 1 - self.progress(step))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from the peak to the floor ``min_ratio`` (Loshchilov & Hutter 2017, equation 5)."""

    min_ratio: float = 0.0

    @override
    def after_warmup(self, step: int) -> float:
        return _above(self.min_ratio, (1 + math.cos(math.pi * self.progress(step))) / 2)


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """The schedule of the Transformer (Vaswani et al. 2017, equation 3), scaled to a peak of 1.

    With s = step + 1 and w = warmup_steps + 1 it is ``min(s / w, sqrt(w / s))``; it never ends.
    """

    @override
    def after_warmup(self, step: int) -> float:
        return math.sqrt((self.warmup_steps + 1) / (step + 1))


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """Warmup, a plateau, and a short decay to the floor ``min_ratio`` (Hu et al. 2024, "MiniCPM", section 4).

    The decay is ``1 - sqrt(p)`` with p from 0 to 1, the shape that Haegele et al. 2024 ("Scaling Laws and
    Compute-Optimal Training Beyond Fixed Training Durations", section 3) found best.

    Attributes:
        decay_steps: updates of the decay; with the warmup at most ``total_steps``.
        min_ratio: multiplier at step ``total_steps``.
    """

    decay_steps: int
    min_ratio: float = 0.0

    @override
    def after_warmup(self, step: int) -> float:
        decay_begins = self.total_steps - self.decay_steps
        if step <= decay_begins:
            return 1.0
        return _above(self.min_ratio, 1 - math.sqrt((step - decay_begins) / self.decay_steps))


def constant(optimizer: Optimizer, total_steps: int, warmup: float = 0.1) -> LambdaLR:
    """Schedule an optimizer with :class:`Constant`; arguments as in :func:`cosine`."""
    return _lambda_lr(optimizer, Constant(total_steps, _warmup_steps(warmup, total_steps)))


def linear(optimizer: Optimizer, total_steps: int, warmup: float = 0.1, min_ratio: float = 0.0) -> LambdaLR:
    """Schedule an optimizer with :class:`Linear`; arguments as in :func:`cosine`."""
    _check_floor(min_ratio)
    return _lambda_lr(optimizer, Linear(total_steps, _warmup_steps(warmup, total_steps), min_ratio))


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.1, min_ratio: float = 0.0) -> LambdaLR:
    """Schedule an optimizer with :class:`Cosine`.

    Args:
        optimizer: its groups' ``lr`` is the peak.
        total_steps: updates of the whole run, at least 1.
        warmup: a share of all steps if below 1, else a number of steps.
        min_ratio: the floor, from 0 to 1, as a multiple of the peak.

    Returns:
        A scheduler to step after each optimizer step. Its state holds numbers only: the schedule itself comes from
        the config, so that a run that is continued for longer follows its new length.

    Raises:
        LxError: the warmup is negative, not a whole number of steps, or longer than the run; or the floor is
            not from 0 to 1.
        ValueError: ``total_steps`` is below 1.
    """
    _check_floor(min_ratio)
    return _lambda_lr(optimizer, Cosine(total_steps, _warmup_steps(warmup, total_steps), min_ratio))


def inverse_sqrt(optimizer: Optimizer, total_steps: int, warmup: float = 0.1) -> LambdaLR:
    """Schedule an optimizer with :class:`InverseSqrt`; arguments as in :func:`cosine`."""
    return _lambda_lr(optimizer, InverseSqrt(total_steps, _warmup_steps(warmup, total_steps)))


def warmup_stable_decay(
    optimizer: Optimizer, total_steps: int, warmup: float = 0.1, decay: float = 0.2, min_ratio: float = 0.0
) -> LambdaLR:
    """Schedule an optimizer with :class:`WarmupStableDecay`.

    Args:
        optimizer: its groups' ``lr`` is the peak.
        total_steps: updates of the whole run, at least 1.
        warmup: a share of all steps if below 1, else a number of steps.
        decay: likewise, at the end of the run.
        min_ratio: the floor, from 0 to 1, as a multiple of the peak.

    Returns:
        A scheduler, as :func:`cosine` does.

    Raises:
        LxError: as :func:`cosine`, and if warmup and decay together are longer than the run.
    """
    _check_floor(min_ratio)
    warmup_steps = _warmup_steps(warmup, total_steps)
    decay_steps = _length(decay, total_steps, "scheduler.decay")
    if warmup_steps + decay_steps > total_steps:
        raise LxError(
            f"scheduler.warmup={warmup} and scheduler.decay={decay} are {warmup_steps} + {decay_steps} "
            f"steps, but the run has only {total_steps}: lower one of them, or train longer"
        )
    return _lambda_lr(optimizer, WarmupStableDecay(total_steps, warmup_steps, decay_steps, min_ratio))


def _lambda_lr(optimizer: Optimizer, schedule: Schedule) -> LambdaLR:
    # A plain function, because LambdaLR saves the fields of a callable object and restores old ones over new ones.
    return LambdaLR(optimizer, lambda step: schedule(step))


def _warmup_steps(warmup: float, total_steps: int) -> int:
    return _length(warmup, total_steps, "scheduler.warmup")


def _length(value: float, total_steps: int, key: str) -> int:
    """Convert a share of all steps, or a number of steps, to a number of steps."""
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, not {total_steps}")
    if not (0 <= value < 1 or (math.isfinite(value) and value >= 1 and value == int(value))):
        raise LxError(f"{key} must be a share of all steps (from 0 to below 1) or a whole number of steps, not {value}")
    if value < 1:
        return math.floor(value * total_steps + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if value > total_steps:
        raise LxError(
            f"{key}={value} is longer than the run, which has {total_steps} steps: lower it, give a share of "
            f"the run (below 1) instead, or train longer"
        )
    return int(value)


def _above(floor: float, shape: float) -> float:
    """Scale a shape that falls from 1 to 0 so that it falls from 1 to ``floor``."""
    return floor + (1 - floor) * shape


def _check_floor(min_ratio: float) -> None:
    if not 0 <= min_ratio <= 1:
        raise LxError(f"scheduler.min_ratio must be from 0 to 1, a multiple of optimizer.lr, not {min_ratio}")
