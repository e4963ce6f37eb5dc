from __future__ import annotations

import pytest

from lx.training.run_length import RunLength, validation_interval


@pytest.mark.parametrize(("total_steps", "num_epochs"), [(1, 1), (7, 1), (8, 2), (14, 2), (15, 3)])
def test_epochs_begun(total_steps: int, num_epochs: int) -> None:
    assert RunLength(7, total_steps, 7).num_epochs == num_epochs


@pytest.mark.parametrize(("step", "position"), [(0, (0, 0)), (6, (0, 6)), (7, (1, 0)), (17, (2, 3))])
def test_position(step: int, position: tuple[int, int]) -> None:
    assert RunLength(7, 100, 7).position(step) == position


@pytest.mark.parametrize(("interval", "steps"), [(7, [7, 14]), (5, [5, 10, 15]), (1, list(range(1, 18))), (18, [])])
def test_validations(interval: int, steps: list[int]) -> None:
    assert [step for step in range(18) if RunLength(7, 17, interval).validates_after(step)] == steps


@pytest.mark.parametrize(
    ("share", "steps"),
    [(0.5, [4, 7, 11, 14, 18, 21]), (0.1, [*range(1, 22)]), (0.4, [3, 6, 9, 12, 14, 17, 20]), (0.01, [*range(1, 22)])],
)
def test_a_share_of_an_epoch_validates_at_the_ends_of_epochs_too(share: float, steps: list[int]) -> None:
    run_length = RunLength(7, 21, validation_interval(share, 1, 7))
    assert [step for step in range(22) if run_length.validates_after(step)] == steps
    assert run_length.validations_by(21) == len(steps)


def test_without_a_share_the_interval_is_whole_steps_or_epochs() -> None:
    assert validation_interval(5, 1, 7) == 5
    assert validation_interval(None, 2, 7) == 14
