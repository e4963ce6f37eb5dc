"""Seed random numbers by seed, step and rank, so that a checkpoint needs no state of generators."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_process(seed: int) -> None:
    """Seed every random generator of this process, for all that is drawn before the first step."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def seed_step(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed every random generator of this process for one optimizer step.

    A resumed run draws what the uninterrupted one would have drawn, whatever was drawn in between, by a validation or a
    callback. Ranks draw different numbers.

    Args:
        seed: of the run.
        step: counted from 0.
        rank: of this process.
        device: that this process computes on, beside the CPU.
    """
    for_torch, for_numpy, for_python = np.random.SeedSequence((seed, step, rank)).generate_state(3)
    # Before an accelerator is used, torch.manual_seed records a stack trace at every call, for its first use.
    manual_seed = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
    manual_seed(int(for_torch))
    np.random.seed(for_numpy)
    random.seed(int(for_python))
