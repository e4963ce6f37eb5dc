"""Points of a Sobol sequence, one for each trial by its number."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import QMCSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from typing_extensions import override


class SobolSampler(QMCSampler):
    """Takes the point with the trial's number; Optuna's own counts its calls, and would skip points after a crash.

    Args:
        scramble_seed: of the sequence, the same for all trials.
        seed: of the values of the first trial, which begins before the axes are known.
    """

    def __init__(self, scramble_seed: int, seed: int) -> None:
        by_chance = RandomSampler(seed=seed)
        super().__init__(
            scramble=True, seed=scramble_seed, independent_sampler=by_chance, warn_independent_sampling=False
        )
        self._number = 0

    @override
    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._number = trial.number
        return super().sample_relative(study, trial, search_space)

    @override
    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number
