from __future__ import annotations

import pytest

from lx.training.run_length import RunLength


@pytest.mark.parametrize(("total_steps", "num_epochs"), [(1, 1), (7, 1), (8, 2), (14, 2), (15, 3)])
def test_epochs_begun(total_steps: int, num_epochs: int) -> None:
    assert RunLength(7, total_steps, 7).num_epochs == num_epochs


@pytest.mark.parametrize(("step", "position"), [(0, (0, 0)), (6, (0, 6)), (7, (1, 0)), (17, (2, 3))])
def test_position(step: int, position: tuple[int, int]) -> None:
    assert RunLength(7, 100, 7).position(step) == position


@pytest.mark.parametrize(("interval", "steps"), [(7, [7, 14]), (5, [5, 10, 15]), (1, list(range(1, 18))), (18, [])])
def test_validations(interval: int, steps: list[int]) -> None:
    assert [step for step in range(18) if RunLength(7, 17, interval).validates_after(step)] == steps
