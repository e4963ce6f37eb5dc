"""The formulas of comparisons: cases worked by hand, other programs, and simulated contenders without a difference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_ind

from lx.report import statistics
from lx.report.statistics import (
    Components,
    Difference,
    holm,
    linearized,
    mcnemar,
    paired_difference,
    seeds_needed,
    variance_components,
)

Values = NDArray[np.float64]


def test_mcnemar_by_hand() -> None:
    """A alone is right on 1 row, B alone on 5: 2 * (1 + 6) / 2^6."""
    a = np.array([1, 0, 0, 0, 0, 0, 1, 1, 0], float)
    b = np.array([0, 1, 1, 1, 1, 1, 1, 1, 0], float)
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(14 / 64)
    assert mcnemar(a, a) == 1.0
    assert mcnemar(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1.0


def test_mcnemar_of_many_rows_is_the_binomial_test() -> None:
    random = np.random.default_rng(0)
    a, b = (random.random((2, 50_000)) < [[0.9], [0.897]]).astype(float)
    expected = binomtest(int((a > b).sum()), int((a != b).sum())).pvalue
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-9)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]


def test_variance_components_by_hand() -> None:
    """A: seed means 1 and 1/3, so v = 2/9; B: 1/3 and 1/3, so v = 0. The interactions' mean squares are 1/6 and 1/2."""
    a = np.array([[1, 1, 1], [1, 0, 0]], float)
    b = np.array([[1, 0, 0], [0, 1, 0]], float)
    components, share = variance_components(a, b, np.array([0.5, 0.0, 0.5]))
    assert components.seeds == pytest.approx((2 / 9) / 2)
    assert components.degrees == pytest.approx(1.0)
    total, interaction = np.var([0.5, 0, 0.5], ddof=1), (1 / 6) / 2 + (1 / 2) / 2
    assert interaction > total and share == components.examples == 0.0


def test_variance_components_are_those_that_the_data_was_made_with() -> None:
    """A mixed model in two levels, of which the mean of the estimates over many data sets is the truth."""
    random = np.random.default_rng(0)
    between, of_examples, within = 0.04, 0.5, 0.8
    estimates = []
    for _ in range(500):
        own = [random.normal(0, math.sqrt(of_examples / 2), 60) for _ in range(2)]
        shared = random.normal(0, 1, 60)
        a, b = (
            shared + each + random.normal(0, math.sqrt(between), (s, 1)) + random.normal(0, math.sqrt(within), (s, 60))
            for each, s in zip(own, (5, 3), strict=True)
        )
        components, _ = variance_components(a, b, a.mean(axis=0) - b.mean(axis=0))
        estimates.append((components.seeds, components.examples))
    seeds, examples = np.mean(estimates, axis=0)
    assert seeds == pytest.approx((between + within / 60) * (1 / 5 + 1 / 3), rel=0.1)
    assert examples == pytest.approx(of_examples / 60, rel=0.1)


def test_one_run_each_is_the_bootstrap_of_the_mean() -> None:
    """Of n values the bootstrap's mean has the variance of the values, divided by n, and a normal shape."""
    random = np.random.default_rng(1)
    a, b = random.integers(0, 2, (2, 1, 400)).astype(float)
    difference = paired_difference(a, b)
    values = (a - b)[0]
    error = values.std() / 20
    assert difference.estimate == pytest.approx(values.mean())
    assert difference.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert difference.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    assert difference.components.seeds is None
    opposite = paired_difference(b, a)
    assert (opposite.low, opposite.high) == pytest.approx((-difference.high, -difference.low), abs=0.1 * error)
    assert opposite.probability == pytest.approx(1 - difference.probability, abs=0.02)


def test_many_values_are_resampled_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    a, b = random.integers(0, 4, (2, 3, 300)).astype(float)
    few = paired_difference(a, b)
    monkeypatch.setattr(statistics, "_FEW_VALUES", 1)
    many = paired_difference(a, b)
    width = few.high - few.low
    assert (many.low, many.high) == pytest.approx((few.low, few.high), abs=0.08 * width)


def test_a_ratio_by_hand() -> None:
    """6 / 12; the first example adds 2 - 0.5 * 3 to the numerator's deviation, times 4 / 12."""
    metric, weight = np.array([2.0, 0, 2, 2]), np.array([3.0, 1, 2, 6])
    assert linearized(metric, weight) == pytest.approx(0.5 + np.array([0.5, -0.5, 1, -1]) / 3)
    assert linearized(metric, np.ones(4)) is metric
    assert linearized(np.zeros(4), np.zeros(4)).tolist() == [0] * 4


def label_sets(random: np.random.Generator, rows: int) -> tuple[Values, Values]:
    """Twice the true positives of each example, and its true and predicted labels, as of micro F1."""
    truth, reached = random.random((2, rows, 6)) < [[[0.2]], [[0.25]]]
    reached = np.where(random.random((rows, 1)) < 0.6, truth, reached)
    return 2.0 * (truth & reached).sum(axis=1), (truth.sum(axis=1) + reached.sum(axis=1)).astype(float)


def test_a_ratio_is_resampled_as_its_sums_are() -> None:
    random = np.random.default_rng(4)
    (metric_a, weight_a), (metric_b, weight_b) = (label_sets(random, 400) for _ in range(2))
    difference = paired_difference(linearized(metric_a, weight_a)[None], linearized(metric_b, weight_b)[None])
    rows = random.integers(400, size=(4_000, 400))
    a, b = (
        metric[rows].sum(1) / weight[rows].sum(1) for metric, weight in ((metric_a, weight_a), (metric_b, weight_b))
    )
    assert difference.estimate == pytest.approx(metric_a.sum() / weight_a.sum() - metric_b.sum() / weight_b.sum())
    width = difference.high - difference.low
    assert (difference.low, difference.high) == pytest.approx(np.quantile(a - b, [0.025, 0.975]), abs=0.06 * width)


@pytest.mark.slow
def test_intervals_of_micro_f1_cover_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_DRAWS", 1_000)
    random = np.random.default_rng(0)
    covered = 0
    for number in range(2_000):
        a, b = (linearized(*label_sets(random, 200))[None] for _ in range(2))
        difference = paired_difference(a, b, seed=number)
        covered += difference.low <= 0 <= difference.high
    print(f"micro F1: {covered / 2_000:.2%} of 2,000 intervals")
    assert 0.93 < covered / 2_000 < 0.97


def test_seeds_alone_are_welchs_test() -> None:
    """Where every example says the same, the interval and p-value are those of Welch's t test of the seed means."""
    means = [0.81, 0.83, 0.80, 0.84], [0.78, 0.80, 0.79]
    a, b = (np.repeat(np.array(each)[:, None], 7, axis=1) for each in means)
    difference, expected = paired_difference(a, b), ttest_ind(*means, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert difference.components.degrees == pytest.approx(expected.df)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high), abs=0.002)
    assert difference.p_value == pytest.approx(expected.pvalue, abs=0.01)
    assert difference.probability == pytest.approx(1 - expected.pvalue / 2, abs=0.01)


def test_a_run_and_itself_do_not_differ() -> None:
    values = np.random.default_rng(3).integers(0, 2, (1, 50)).astype(float)
    difference = paired_difference(values, values)
    assert (difference.estimate, difference.low, difference.high) == (0.0, 0.0, 0.0)
    assert (difference.probability, difference.p_value) == (0.5, 1.0)


def test_seeds_needed_by_hand() -> None:
    """0.02 / (1.96 + 0.8416) is 0.00714: less examples' 2e-5, 3.1e-5 is left of its square for the seeds."""
    difference = Difference(0.02, 0, 0, 0, 0, Components(seeds=5e-5, degrees=8, examples=2e-5))
    left = (0.02 / (1.959964 + 0.841621)) ** 2 - 2e-5
    assert seeds_needed(difference, (5, 5)) == math.ceil(5e-5 * 5 / left) == 9
    assert seeds_needed(difference, (10, 5)) == math.ceil(5e-5 * (2 / 0.3) / left)
    too_few_rows = Difference(0.01, 0, 0, 0, 0, Components(seeds=5e-5, degrees=8, examples=2e-5))
    assert seeds_needed(too_few_rows, (5, 5)) == math.inf


def equally_good(random: np.random.Generator, seeds: tuple[int, int], rows: int, between: float) -> list[Values]:
    """Two contenders, right or wrong: rows are hard or easy, for each contender a little otherwise, and seeds vary."""
    hardness = random.normal(1.5, 2, rows)
    logits = [hardness + random.normal(0, 0.5, rows) + random.normal(0, between, (count, 1)) for count in seeds]
    return [(random.random(each.shape) < 1 / (1 + np.exp(-each))).astype(float) for each in logits]


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "between"), [((1, 1), 0.0), ((5, 5), 0.0), ((5, 5), 0.3), ((3, 3), 0.2)])
def test_intervals_cover_no_difference(seeds: tuple[int, int], between: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 pairs of contenders that are equally good, 93 to 97% have an interval with 0 in it."""
    monkeypatch.setattr(statistics, "_DRAWS", 1_000)
    random = np.random.default_rng(0)
    covered = 0
    for number in range(2_000):
        difference = paired_difference(*equally_good(random, seeds, 200, between), seed=number)
        covered += difference.low <= 0 <= difference.high
    print(f"seeds {seeds}, deviation between seeds {between}: {covered / 2_000:.2%} of 2,000 intervals")
    assert 0.93 < covered / 2_000 < 0.97
