"""Whether a difference between two contenders is real, from what each of their runs got right on the same examples.

Axis legend: N examples, S seeds of a contender, B draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
_DRAWS, _DRAWS_OF_MANY = 20_000, 2_000
_FEW_VALUES = 4096
_Z = 1.959964, 0.841621  # of a two-sided 5%, and of a power of 80%

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Variances of the difference between the means of two contenders.

    Attributes:
        seeds: of the two seed means, together; None: both contenders have one seed, which says nothing of others.
        degrees: of freedom of ``seeds``.
        examples: of the choice of the examples, without what varies from seed to seed.
    """

    seeds: float | None
    degrees: float
    examples: float

    @property
    def standard_error(self) -> float:
        """Standard deviation of the difference."""
        return math.sqrt((self.seeds or 0.0) + self.examples)


@dataclass(frozen=True)
class Difference:
    """The mean metric of A minus that of B.

    Attributes:
        estimate: on these examples, over these seeds.
        low: where the 95% interval begins.
        high: where it ends.
        probability: that A's is larger than B's.
        p_value: two-sided, of no difference.
        components: of the variance.
    """

    estimate: float
    low: float
    high: float
    probability: float
    p_value: float
    components: Components


def linearized(metric: Values, weight: Values) -> Values:
    """Return one value an example [N], whose mean is the ratio of the sum of ``metric`` [N] to that of ``weight`` [N].

    For weights of 1 these are the metric's. Else, as of an F1, they are the ratio plus the influence of each example on
    it (Davison and Hinkley 1997, section 2.7.2), so that a resample's mean is its ratio to first order.
    """
    total = weight.sum()
    ratio = metric.sum() / total if total else 0.0
    influence: Values = (metric - ratio * weight) * (len(metric) / (total or 1.0))
    return metric if (weight == 1).all() else ratio + influence


def paired_difference(a: Values, b: Values, seed: int = 0) -> Difference:
    """Compare the means of A [S_A, N] and B [S_B, N] over examples and seeds by a bootstrap.

    The examples are the same for both and are resampled together, as in Efron and Tibshirani 1993, chapter 16; their
    seeds are drawn apart. With d[i] the difference of the two means over seeds on example i::

        draw = estimate + share * (mean of a resample of d - estimate) + t * sqrt(v_A / S_A + v_B / S_B)

    - v is the variance of a contender's seed means. t is a draw from Student's distribution with the degrees of freedom
      of Welch 1947: to resample three or five seeds themselves gives intervals that are far too short (Davison and
      Hinkley 1997, section 3.8).
    - What varies from seed to seed on one example alone is in v, and in d again. ``share`` shrinks the second, so that
      the variance of a draw is that of the estimate, as Davison and Hinkley do for data in two levels: its square is
      1 - (q_A / S_A + q_B / S_B) / variance of d, at least 0, where q is the mean square of a contender's interaction
      of seeds and examples in an analysis of variance.

    A contender with one seed is given the v and q of the other. If both have one, the seeds' part is left out: the
    answer is then about these two runs, not about others of their kind.

    Args:
        a: metric of each example in each run of A.
        b: likewise of B, of the same examples.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    sums = len(b) * a.sum(axis=0) - len(a) * b.sum(axis=0)  # whole numbers stay whole: there are few of them
    differences = sums / (len(a) * len(b))
    estimate = float(differences.mean())
    components, share = variance_components(a, b, differences)
    draws = estimate + share * _resampled_means(differences - estimate, random)
    if components.seeds:
        draws += math.sqrt(components.seeds) * random.standard_t(components.degrees, len(draws))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    above, equal = float((draws > 0).mean()), float((draws == 0).mean())
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    p_value = min(1.0, 2 * (int(tail) + 1) / (len(draws) + 1))
    return Difference(estimate, float(low), float(high), above + equal / 2, p_value, components)


def variance_components(a: Values, b: Values, differences: Values) -> tuple[Components, float]:
    """Estimate the variance of a difference, and the share of the examples' deviations that is not the seeds'.

    See :func:`paired_difference`.
    """
    total = float(differences.var(ddof=1)) if len(differences) > 1 else 0.0
    of_runs = [_between_seeds(values) for values in (a, b) if len(values) > 1]
    if not of_runs:
        return Components(None, 1.0, total / len(differences)), 1.0
    (v_a, q_a), (v_b, q_b) = of_runs if len(of_runs) == 2 else of_runs * 2
    parts = [v_a / len(a), v_b / len(b)]
    degrees = [len(values) - 1 for values in (a, b) if len(values) > 1]
    welch = float(degrees[0])
    if len(degrees) == 2 and any(parts):
        welch = sum(parts) ** 2 / sum(part**2 / degree for part, degree in zip(parts, degrees, strict=True))
    interaction = q_a / len(a) + q_b / len(b)
    share = math.sqrt(max(0.0, 1 - interaction / total)) if total else 0.0
    return Components(sum(parts), welch, share**2 * total / len(differences)), share


def _between_seeds(values: Values) -> tuple[float, float]:
    """Return the variance of the seed means, and the mean square of the interaction of seeds and examples."""
    num_seeds, num_examples = values.shape
    seed_means = values.mean(axis=1)
    rest = values - values.mean(axis=0) - (seed_means - seed_means.mean())[:, None]
    return float(seed_means.var(ddof=1)), float((rest**2).sum() / ((num_seeds - 1) * max(1, num_examples - 1)))


def _resampled_means(values: Values, random: np.random.Generator) -> Values:
    """Return the means [B] of B resamples of the values, each as large as they are."""
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) <= _FEW_VALUES:  # how often each value is drawn is multinomial
        means: Values = random.multinomial(len(values), counts / len(values), _DRAWS) @ levels / len(values)
        return means
    draws = (
        values[random.integers(len(values), size=len(values), dtype=np.int32)].mean() for _ in range(_DRAWS_OF_MANY)
    )
    return np.fromiter(draws, np.float64, _DRAWS_OF_MANY)


def mcnemar(a: Values, b: Values) -> float:
    """Compute the exact p-value of McNemar 1947 for two runs that are right (1) or wrong (0) on each example [N].

    Of the examples that one run alone gets right, half are A's if the two are equally good, so that their number is
    binomial: twice the smaller tail, at most 1.
    """
    from scipy.special import bdtr

    only_a, only_b = int((a > b).sum()), int((a < b).sum())
    if only_a + only_b == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm 1979): below 0.05, they are right together 95 times in 100.

    The smallest of n is multiplied by n, the next by n - 1, and so on; none becomes smaller than the one before it.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def seeds_needed(difference: Difference, num_seeds: tuple[int, int]) -> float:
    """Estimate how many seeds each contender needs for a difference as large as measured to be found in 4 of 5 tries.

    With n seeds each, the standard error must be at most ``|estimate| / (z_0.975 + z_0.8)``. Its square is that of the
    examples, which more seeds leave as it is, and that of the seeds, which goes down with their number; the harmonic
    mean stands for unequal numbers. Infinite if the examples alone are too few.
    """
    left = (difference.estimate / sum(_Z)) ** 2 - difference.components.examples
    mean_number = 2 / (1 / num_seeds[0] + 1 / num_seeds[1])
    return math.ceil((difference.components.seeds or 0.0) * mean_number / left) if left > 0 else math.inf
