from __future__ import annotations

import random

import numpy as np
import torch

from lx.training.seeding import seed_step

CPU = torch.device("cpu")


def drawn(seed: int, step: int, rank: int) -> tuple[float, float, float]:
    """What each generator gives first, after it was used for something else."""
    seed_step(seed, step, rank, CPU)
    return torch.rand(()).item(), float(np.random.rand()), random.random()


def test_numbers_follow_from_seed_step_and_rank_alone() -> None:
    first = drawn(3, 5, 1)
    torch.rand(7), np.random.rand(11), random.random()
    assert drawn(3, 5, 1) == first


def test_every_seed_step_and_rank_has_numbers_of_its_own() -> None:
    places = [(seed, step, rank) for seed in (0, 1, 2**32 - 1) for step in (0, 1, 10**7) for rank in (0, 1, 7)]
    for numbers in zip(*(drawn(*place) for place in places), strict=True):
        assert len(set(numbers)) == len(places)
    assert len(set(drawn(3, 5, 1))) == 3


def test_numbers_are_pinned() -> None:
    """A resumed run depends on them: others would make another run."""
    seed_step(3, 5, 1, CPU)
    assert torch.initial_seed() == 3759185310
    assert random.getrandbits(32) == 1814377037
    assert int(np.random.randint(2**31)) == 230781757
