"""Learning-rate schedules: the multiplier of the peak learning rate at each optimizer step.

Steps count from 0: the first update of a run is step 0, the last one is step ``total_steps - 1``. A warmup of W steps
has the multipliers 1/(W+1), ..., W/(W+1) at steps 0 to W-1 and reaches the peak, 1, at step W. A decay reaches its
floor at step ``total_steps``, one after the last update: no update has a learning rate of zero, at either end. Beyond
``total_steps`` the multiplier stays constant.

Every schedule is a function with these arguments, and some have one more:

- optimizer: its groups' ``lr`` is the peak.
- total_steps: updates of the whole run, at least 1.
- warmup: a share of all steps, rounded down, if below 1; else a number of steps.
- min_ratio: the floor of the decay, from 0 to 1, as a multiple of the peak.

It returns a scheduler to step after each optimizer step, and raises ArgumentError if a setting is out of range. The
state of the scheduler holds numbers only: the schedule itself comes from the config, so that a run that is continued
for longer follows its new length.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lx.errors import ArgumentError

Multiplier = Callable[[int], float]
"""Maps an optimizer step to the multiplier of the learning rate."""


def constant(optimizer: Optimizer, total_steps: int, warmup: float = 0.1) -> LambdaLR:
    """The peak to the end."""
    warmup_steps = _num_steps("warmup", warmup, total_steps)
    return _scheduler(optimizer, total_steps, warmup_steps, lambda step: 1.0)


def linear(optimizer: Optimizer, total_steps: int, warmup: float = 0.1, min_ratio: float = 0.0) -> LambdaLR:
    """A straight line from the peak to the floor."""
    warmup_steps = _num_steps("warmup", warmup, total_steps)
    decay = _decay(warmup_steps, total_steps, min_ratio, lambda progress: 1 - progress)
    return _scheduler(optimizer, total_steps, warmup_steps, decay)


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.1, min_ratio: float = 0.0) -> LambdaLR:
    """Half a cosine from the peak to the floor (Loshchilov & Hutter 2017, equation 5)."""
    warmup_steps = _num_steps("warmup", warmup, total_steps)
    decay = _decay(warmup_steps, total_steps, min_ratio, lambda progress: (1 + math.cos(math.pi * progress)) / 2)
    return _scheduler(optimizer, total_steps, warmup_steps, decay)


def inverse_sqrt(optimizer: Optimizer, total_steps: int, warmup: float = 0.1) -> LambdaLR:
    """The schedule of the Transformer (Vaswani et al. 2017, equation 3), scaled to a peak of 1.

    With s = step + 1 and w = warmup_steps + 1 it is ``min(s / w, sqrt(w / s))``; it has no floor.
    """
    warmup_steps = _num_steps("warmup", warmup, total_steps)
    return _scheduler(optimizer, total_steps, warmup_steps, lambda step: math.sqrt((warmup_steps + 1) / (step + 1)))


def warmup_stable_decay(
    optimizer: Optimizer, total_steps: int, warmup: float = 0.1, decay: float = 0.2, min_ratio: float = 0.0
) -> LambdaLR:
    """Warmup, a plateau, and a short decay to the floor (Hu et al. 2024, "MiniCPM", section 4).

    ``decay`` is the length of the decay, given as ``warmup`` is. Its shape, ``1 - sqrt(p)`` with p from 0 to 1, is the
    one that Haegele et al. 2024 ("Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations",
    section 3) found best.
    """
    warmup_steps, decay_steps = _num_steps("warmup", warmup, total_steps), _num_steps("decay", decay, total_steps)
    if warmup_steps + decay_steps > total_steps:
        raise ArgumentError(
            f"warmup={warmup} and decay={decay} are {warmup_steps} + {decay_steps} steps, but the run has only "
            f"{total_steps}: lower one of them, or train longer"
        )
    falling = _decay(total_steps - decay_steps, total_steps, min_ratio, lambda progress: 1 - math.sqrt(progress))
    return _scheduler(optimizer, total_steps, warmup_steps, falling)


def _scheduler(optimizer: Optimizer, total_steps: int, warmup_steps: int, after_warmup: Multiplier) -> LambdaLR:
    """Schedule an optimizer; ``after_warmup`` is 1 at step ``warmup_steps`` and is called up to ``total_steps``."""

    # A plain function, because LambdaLR saves the fields of a callable object and restores old ones over new ones.
    def multiplier(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return after_warmup(min(step, total_steps))

    return LambdaLR(optimizer, multiplier)


def _decay(begin: int, end: int, floor: float, shape: Callable[[float], float]) -> Multiplier:
    """Return a multiplier that is 1 up to step ``begin`` and ``floor`` at ``end``.

    Between the two it follows ``shape``, which falls from 1 to 0 while the share of the steps that is done grows from
    0 to 1.
    """
    if not 0 <= floor <= 1:
        raise ArgumentError(f"min_ratio must be from 0 to 1, a multiple of the peak learning rate, not {floor}")
    return lambda step: floor + (1 - floor) * shape(max(0, step - begin) / max(1, end - begin))


def _num_steps(name: str, length: float, total_steps: int) -> int:
    """Convert a length, a share of all steps or a number of steps, to a number of steps."""
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, not {total_steps}")
    if not (0 <= length < 1 or (math.isfinite(length) and length >= 1 and length == int(length))):
        raise ArgumentError(
            f"{name} must be a share of all steps (from 0 to below 1) or a whole number of steps, not {length}"
        )
    if length < 1:
        return math.floor(length * total_steps + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if length > total_steps:
        raise ArgumentError(
            f"{name}={length} is longer than the run, which has {total_steps} steps: lower it, give a share of "
            f"the run (below 1) instead, or train longer"
        )
    return int(length)
