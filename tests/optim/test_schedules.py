from __future__ import annotations

import io
from collections.abc import Callable
from math import sqrt
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR

from lx.errors import ArgumentError
from lx.optim import schedules
from support.optimizers import node

FACTORIES = [
    schedules.constant,
    schedules.linear,
    schedules.cosine,
    schedules.inverse_sqrt,
    schedules.warmup_stable_decay,
]


def optimizer(lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=lr)


def rates(scheduler: LambdaLR, steps: int) -> list[float]:
    """The learning rate of each of the first updates."""
    seen = []
    for _ in range(steps):
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("factory", "settings", "expected"),
    [
        (schedules.constant, (5, 3), [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1]),
        (schedules.constant, (3, 0), [1, 1, 1, 1]),
        (schedules.linear, (6, 1), [1 / 2, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5, 0, 0]),
        (schedules.linear, (4, 0, 0.2), [1, 0.8, 0.6, 0.4, 0.2, 0.2]),
        (schedules.cosine, (4, 0), [1, (1 + sqrt(1 / 2)) / 2, 1 / 2, (1 - sqrt(1 / 2)) / 2, 0, 0]),
        (schedules.cosine, (5, 2, 0.5), [1 / 3, 2 / 3, 1, 0.875, 0.625, 0.5, 0.5]),
        (
            schedules.inverse_sqrt,
            (7, 2),
            [1 / 3, 2 / 3, 1, sqrt(3 / 4), sqrt(3 / 5), sqrt(3 / 6), sqrt(3 / 7), sqrt(3 / 8)],
        ),
        (schedules.inverse_sqrt, (3, 0), [1, sqrt(1 / 2), sqrt(1 / 3), sqrt(1 / 4), sqrt(1 / 4)]),
        (schedules.warmup_stable_decay, (8, 1, 4), [1 / 2, 1, 1, 1, 1, 1 / 2, 1 - sqrt(1 / 2), 1 - sqrt(3 / 4), 0, 0]),
        (schedules.warmup_stable_decay, (3, 0, 3, 0.1), [1, 1 - 0.9 * sqrt(1 / 3), 1 - 0.9 * sqrt(2 / 3), 0.1]),
        (schedules.warmup_stable_decay, (3, 1, 0), [1 / 2, 1, 1, 1, 1]),
        (schedules.linear, (3, 3), [1 / 4, 2 / 4, 3 / 4, 1, 1]),
    ],
)
def test_multipliers(factory: Callable[..., LambdaLR], settings: tuple[float, ...], expected: list[float]) -> None:
    (multiplier,) = factory(optimizer(), *settings).lr_lambdas
    assert [multiplier(step) for step in range(len(expected))] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 0.1), (1, 1), (97, 0.13), (97, 11), (5, 5)])
def test_no_update_is_made_with_a_rate_of_zero_or_above_the_peak(
    factory: Callable[..., LambdaLR], total: int, warmup: float
) -> None:
    room = {"decay": 0.0} if factory is schedules.warmup_stable_decay and warmup >= total else {}
    for rate in rates(factory(optimizer(0.3), total_steps=total, warmup=warmup, **room), total):
        assert 0 < rate <= 0.3


@pytest.mark.parametrize(
    ("warmup", "total", "steps"),
    [(0, 30, 0), (0.1, 30, 3), (0.1, 39, 3), (0.29, 100, 29), (0.999, 10, 9), (1, 30, 1), (1.0, 30, 1), (30, 30, 30)],
)
def test_below_one_is_a_share_and_from_one_on_a_number_of_steps(warmup: float, total: int, steps: int) -> None:
    seen = rates(schedules.constant(optimizer(), total_steps=total, warmup=warmup), total)
    assert sum(rate < 1 for rate in seen) == steps


@pytest.mark.parametrize(
    ("factory", "settings", "message"),
    [
        (schedules.cosine, {"warmup": 31}, r"warmup=31 is longer than the run, which has 30 steps"),
        (schedules.constant, {"warmup": -0.1}, r"warmup must be a share .* not -0\.1"),
        (schedules.linear, {"warmup": 2.5}, r"warmup must be .* whole number of steps, not 2\.5"),
        (schedules.inverse_sqrt, {"warmup": float("nan")}, r"warmup must be .* not nan"),
        (schedules.linear, {"warmup": float("inf")}, r"warmup must be .* not inf"),
        (schedules.cosine, {"min_ratio": 1.5}, r"min_ratio must be from 0 to 1.*not 1\.5"),
        (schedules.linear, {"min_ratio": -1}, r"min_ratio must be from 0 to 1.*not -1"),
        (schedules.warmup_stable_decay, {"decay": 40}, r"decay=40 is longer than the run"),
        (
            schedules.warmup_stable_decay,
            {"warmup": 0.5, "decay": 16},
            r"warmup=0\.5 and decay=16 are 15 \+ 16 steps, but the run has only 30",
        ),
    ],
)
def test_impossible_settings_are_named(
    factory: Callable[..., LambdaLR], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        factory(optimizer(), total_steps=30, **settings)


def test_a_run_without_steps_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="total_steps must be at least 1"):
        schedules.constant(optimizer(), total_steps=0)


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_saved_scheduler_goes_on_where_it_was(factory: Callable[..., LambdaLR]) -> None:
    whole = rates(factory(optimizer(0.3), total_steps=23), 23)

    first = factory(optimizer(0.3), total_steps=23)
    assert rates(first, 7) == whole[:7]
    file = io.BytesIO()
    torch.save({"optimizer": first.optimizer.state_dict(), "scheduler": first.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    second = factory(optimizer(0.3), total_steps=23)
    second.optimizer.load_state_dict(saved["optimizer"])
    second.load_state_dict(saved["scheduler"])
    assert rates(second, 16) == whole[7:]


def test_a_run_that_is_continued_for_longer_follows_its_new_length() -> None:
    first = schedules.linear(optimizer(), total_steps=10, warmup=0)
    rates(first, 5)
    longer = schedules.linear(optimizer(), total_steps=20, warmup=0)
    longer.load_state_dict(first.state_dict())
    longer.optimizer.step()
    longer.step()
    assert longer.get_last_lr() == pytest.approx([14 / 20])


@pytest.mark.parametrize(
    ("factory", "decay"),
    [
        (schedules.cosine, lambda optimizer: CosineAnnealingLR(optimizer, T_max=26, eta_min=0.03)),
        (schedules.linear, lambda optimizer: LinearLR(optimizer, 1.0, 0.1, total_iters=26)),
    ],
)
def test_schedules_equal_torchs_own_after_a_linear_warmup(factory: Any, decay: Any) -> None:
    (multiplier,) = factory(torch.optim.SGD([nn.Parameter(torch.ones(3))]), 31, 5, min_ratio=0.1).lr_lambdas
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.3)
    warmup = LinearLR(optimizer, start_factor=1 / 6, total_iters=5)
    torchs = SequentialLR(optimizer, [warmup, decay(optimizer)], milestones=[5])
    for step in range(31):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3 * multiplier(step), rel=1e-6), step
        optimizer.step()
        torchs.step()


def test_inverse_sqrt_is_the_papers_formula() -> None:
    """Vaswani et al. 2017, equation 3, with d_model = 512 and 4000 warmup steps; the peak is at step 4000."""

    def paper(step: int) -> float:
        return 512**-0.5 * min(step**-0.5, step * 4000**-1.5)

    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=paper(4000))
    scheduler = instantiate(node("scheduler", "inverse_sqrt", warmup=3999))(optimizer, total_steps=100_000)
    multiplier = scheduler.lr_lambdas[0]
    for step in (1, 2, 777, 3999, 4000, 4001, 50_000, 100_000):
        assert paper(4000) * multiplier(step - 1) == pytest.approx(paper(step), rel=1e-12)
