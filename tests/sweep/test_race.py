"""When a trial is clearly behind the best one."""

from __future__ import annotations

from lx.sweep.race import gap_behind
from lx.sweep.trials import Mean

BEST = {0: 0.90, 1: 0.80, 2: 0.85}


def test_one_seed_says_nothing() -> None:
    assert gap_behind({0: 0.1}, BEST, "max") is None
    assert gap_behind({0: 0.1, 7: 0.1}, BEST, "max") is None


def test_a_steady_gap_over_common_seeds_is_behind() -> None:
    gap = gap_behind({0: 0.80, 1: 0.69, 7: 0.99}, BEST, "max")
    assert isinstance(gap, Mean)
    assert (round(gap.mean, 6), gap.count) == (0.105, 2)


def test_a_gap_that_changes_from_seed_to_seed_is_not() -> None:
    assert gap_behind({0: 0.80, 1: 0.60}, BEST, "max") is None  # 0.15 on average; 6.314 standard errors are 0.32
    assert gap_behind({0: 0.80, 1: 0.60, 2: 0.75}, BEST, "max") is not None  # 0.133; 2.920 of them are 0.097


def test_better_is_never_behind() -> None:
    assert gap_behind({0: 0.95, 1: 0.85}, BEST, "max") is None
    assert gap_behind({0: 0.95, 1: 0.86}, BEST, "min") is not None
