"""Random numbers of a training step: a function of seed, step and rank, so that none need to be saved."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed every random generator of this process for one optimizer step.

    A resumed run draws what the uninterrupted one would have drawn, whatever was drawn in between, by a validation or a
    callback. Ranks draw different numbers.

    Args:
        seed: of the run.
        step: counted from 0.
        rank: of this process.
    """
    for_torch, for_numpy, for_python = np.random.SeedSequence((seed, step, rank)).generate_state(3)
    # Where there is no accelerator, torch would still write down the whole stack for the day that one appears.
    everywhere = torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed
    everywhere(int(for_torch))
    np.random.seed(for_numpy)
    random.seed(int(for_python))
