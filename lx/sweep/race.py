"""Find out whether a trial is clearly behind the best one, so that no further seeds are spent on it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lx.sweep.trials import Mean

# The 95% quantile of Student's t with 1, 2, ... degrees of freedom; with more, the last one is on the safe side.
_T_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)


def gap_behind(values: Mapping[int, float], best: Mapping[int, float], mode: str) -> Mean | None:
    """Return how far a trial is behind the best, if that is more than chance explains.

    Seeds share what they change (the order of the data, the first weights), so trials race in pairs on the seeds that
    both have (Maron and Moore 1994; with a paired t-test, Birattari et al. 2002). A trial is out when the mean
    difference is above the one-sided 95% quantile of Student's t times its standard error.

    Args:
        values: the trial's objective by seed.
        best: that of the best trial.
        mode: ``max`` or ``min``.

    Returns:
        The mean difference; None: too small, or on fewer than two seeds.
    """
    sign = 1.0 if mode == "max" else -1.0
    gap = Mean.of([sign * (best[seed] - value) for seed, value in values.items() if seed in best])
    if gap is None or gap.deviation is None:
        return None
    quantile = _T_95[min(gap.count - 2, len(_T_95) - 1)]
    return gap if gap.mean > quantile * gap.deviation / math.sqrt(gap.count) else None
