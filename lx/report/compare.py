"""Compare contenders: what differs in their settings and results, and whether the difference is real."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from lx.config.objective import SMALLER_IS_BETTER
from lx.errors import LxError
from lx.report.contenders import Contender, changed_settings, mean_and_deviation, shared_split
from lx.report.statistics import Difference, holm, mcnemar, paired_difference, seeds_needed
from lx.system.progress import track

_MOST_CONTENDERS = 12
_SIGNIFICANT = 0.05
_FEWEST_SEEDS = 3  # that say how much a metric varies from seed to seed
_MOST_SEEDS = 100  # that are advised


@dataclass(frozen=True)
class Pair:
    """Two contenders, compared.

    Attributes:
        a: name of the first.
        b: name of the second.
        num_seeds: of each.
        difference: of the main metric, A minus B.
        probability: that A is better than B.
        adjusted_p: the difference's p-value, or McNemar's if that is larger, adjusted by Holm for the number of pairs.
        mcnemar_p: exact, for one run each that is right or wrong on each row; None elsewhere.
        verdict: in a sentence.
    """

    a: str
    b: str
    num_seeds: tuple[int, int]
    difference: Difference
    probability: float
    adjusted_p: float
    mcnemar_p: float | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Contenders, compared on the same rows.

    Attributes:
        metric: the main metric of their task.
        split: that was compared on.
        num_rows: of it.
        names: of the contenders.
        seeds: of each contender's runs, by its name.
        settings: where they differ: by key the value of each contender.
        results: by name, of each contender the mean over its runs and their sample standard deviation.
        pairs: of every two.
    """

    metric: str
    split: str
    num_rows: int
    names: list[str]
    seeds: dict[str, list[Any]]
    settings: dict[str, list[Any]]
    results: dict[str, list[tuple[float, float | None] | None]]
    pairs: list[Pair]


def compare_contenders(contenders: Sequence[Contender]) -> Comparison:
    """Compare the main metric of every two contenders.

    Raises:
        LxError: there are fewer than two or too many, or their runs cannot be compared.
    """
    if not 2 <= len(contenders) <= _MOST_CONTENDERS:
        raise LxError(
            f"there is nothing to compare {contenders[0].name} with: name another run, or a sweep of several trials"
            if len(contenders) == 1
            else f"{len(contenders)} contenders are too many to compare each with each: name at most "
            f"{_MOST_CONTENDERS} of them, such as SWEEP/0 SWEEP/7"
        )
    split = shared_split(contenders)
    metric = contenders[0].runs[0].metric
    two_by_two = list(combinations(contenders, 2))
    differences, exact = [], []
    with track("comparing", len(two_by_two), "pairs") as advance:
        for a, b in two_by_two:
            of_a, of_b = a.values(split), b.values(split)
            differences.append(paired_difference(of_a, of_b))
            is_counted = len(of_a) == len(of_b) == 1 and bool(np.isin((of_a, of_b), (0, 1)).all())
            exact.append(mcnemar(of_a[0], of_b[0]) if is_counted else None)
            advance(1)
    # The bootstrap is overconfident where two runs differ on few rows, so the exact test counts if its p is larger.
    adjusted = holm([max(each.p_value, p or 0.0) for each, p in zip(differences, exact, strict=True)])
    smaller_is_better = metric in SMALLER_IS_BETTER
    judged = zip(two_by_two, differences, adjusted, exact, strict=True)
    return Comparison(
        metric=metric,
        split=split,
        num_rows=len(contenders[0].runs[0].splits[split].rows),
        names=[contender.name for contender in contenders],
        seeds={contender.name: [run.seed for run in contender.runs] for contender in contenders},
        settings=_settings(contenders),
        results=_results(contenders),
        pairs=[_pair(a, b, difference, p, q, smaller_is_better) for (a, b), difference, p, q in judged],
    )


def _settings(contenders: Sequence[Contender]) -> dict[str, list[Any]]:
    configs = [contender.runs[0].config for contender in contenders]
    return {key: [config.get(key) for config in configs] for key in changed_settings(configs)}


def _results(contenders: Sequence[Contender]) -> dict[str, list[tuple[float, float | None] | None]]:
    numbers = [contender.numbers() for contender in contenders]
    names = dict.fromkeys(name for each in numbers for name in each)
    return {name: [mean_and_deviation(each[name]) if name in each else None for each in numbers] for name in names}


def _pair(
    a: Contender,
    b: Contender,
    difference: Difference,
    adjusted_p: float,
    mcnemar_p: float | None,
    smaller_is_better: bool,
) -> Pair:
    num_seeds = len(a.runs), len(b.runs)
    a_is_better = (difference.estimate < 0) == smaller_is_better
    if adjusted_p < _SIGNIFICANT:
        better, worse = (a.name, b.name) if a_is_better else (b.name, a.name)
        verdict = f"{better} is better than {worse}"
        if num_seeds == (1, 1):
            verdict += "; one seed each says nothing of other seeds"
    else:
        verdict = f"cannot tell {_advice(difference, num_seeds)}"
    return Pair(
        a=a.name,
        b=b.name,
        num_seeds=num_seeds,
        difference=difference,
        probability=1 - difference.probability if smaller_is_better else difference.probability,
        adjusted_p=adjusted_p,
        mcnemar_p=mcnemar_p,
        verdict=verdict,
    )


def _advice(difference: Difference, num_seeds: tuple[int, int]) -> str:
    """Say with how many seeds two contenders cannot be told apart and, if that is known, how many would suffice."""
    fewest, most = min(num_seeds), max(num_seeds)
    seeds = "with one seed each" if most == 1 else f"with {fewest} seeds each"
    if fewest < most:
        seeds = f"with {num_seeds[0]} and {num_seeds[1]} seeds"
    if fewest < _FEWEST_SEEDS:
        return f"{seeds}: run {_FEWEST_SEEDS} or more of each"
    if abs(difference.estimate) < difference.components.standard_error:
        return f"{seeds}: the difference is within its standard error"
    needed = seeds_needed(difference, num_seeds)
    if math.isinf(needed):
        return f"{seeds}, and more would not do: there are too few rows"
    if needed > _MOST_SEEDS:
        return f"{seeds}: it would take more than {_MOST_SEEDS}"
    return f"{seeds}; about {max(1, int(needed) - fewest)} more each would do"
