"""Which trial comes next: an Optuna study, which takes one trial at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from lx.sweep.promotion import PausedAsPruned
from lx.sweep.space import Axis, Choices, Params, format_number

JOURNAL_NAME = "lx"
"""The name of the only study in a journal."""
_COPIED = "copied"


class SeededSampler(BaseSampler):
    """A fresh sampler for every trial, seeded by the sweep's seed and the trial's number.

    A sampler that lives as long as the process would draw other values after a resumption. This one draws what an
    undisturbed sweep would have drawn, given the same finished trials.

    Args:
        build: builds the sampler of one trial from its seed.
        seed: of the sweep.
    """

    def __init__(self, build: Callable[[int], BaseSampler], seed: int) -> None:
        self._build = build
        self._seed = seed

    def _sampler(self, trial: FrozenTrial, param_name: str = "") -> BaseSampler:
        """Build the sampler of a trial, or of one value of it: some values may be recorded already, others not."""
        digest = blake2b(f"{self._seed}/{trial.number}/{param_name}".encode(), digest_size=4).digest()
        return self._build(int.from_bytes(digest, "little"))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See Optuna."""
        return self._sampler(trial).infer_relative_search_space(PausedAsPruned.of(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna."""
        return self._sampler(trial).sample_relative(PausedAsPruned.of(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See Optuna."""
        sampler = self._sampler(trial, param_name)
        return sampler.sample_independent(PausedAsPruned.of(study), trial, param_name, param_distribution)


class SweepStudy:
    """The study of a sweep.

    Args:
        storage: where it lives.
        name: of the study there; when an axis gets other values, it is copied to NAME-2, NAME-3 and so on.
        axes: what varies, perhaps with more values than when the study was made.
        direction: of the objective.
        sampler: chooses the values that a trial leaves open; None where every trial names them all.
        further: directions of further objectives.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        axes: Sequence[Axis],
        direction: Literal["minimize", "maximize"],
        sampler: BaseSampler | None,
        further: Sequence[Literal["minimize", "maximize"]] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.axes = axes
        self._storage = storage
        self._name = name
        self._directions = [direction, *further]
        self._listed = sampler is None
        self._sampler = sampler or optuna.samplers.RandomSampler(seed=0)
        self._study = self._open()

    def _open(self) -> Study:
        """Open the newest study of the sweep; if an axis has other values now, copy its trials to a new one."""
        studies = [study for study in self._storage.get_all_studies() if study.study_name.startswith(self._name)]
        # A copy without the mark is incomplete: its process was killed while it copied the trials.
        names = [study.study_name for study in studies if study.study_name == self._name or _COPIED in study.user_attrs]
        if not names:
            return self._create(self._name)
        study = optuna.load_study(study_name=names[-1], storage=self._storage, sampler=self._sampler)
        known = {key: value for trial in study.get_trials(deepcopy=False) for key, value in trial.distributions.items()}
        now = {axis.key: distribution(axis) for axis in self.axes}
        if all(known.get(key, value) == value for key, value in now.items()):
            return study
        extended = self._create(f"{self._name}-{len(studies) + 1}")
        for trial in study.get_trials(states=None):
            trial.distributions = {key: now[key] for key in trial.params}
            extended.add_trial(trial)
        extended.set_user_attr(_COPIED, True)
        return extended

    def _create(self, name: str) -> Study:
        return optuna.create_study(
            study_name=name, storage=self._storage, sampler=self._sampler, directions=self._directions
        )

    @property
    def optuna(self) -> Study:
        """Optuna's own study."""
        return self._study

    def __len__(self) -> int:
        return len(self._study.get_trials(deepcopy=False))

    def planned(self) -> list[dict[str, Any]]:
        """The values that each trial was enqueued with, in their order."""
        return [
            dict(trial.system_attrs.get("fixed_params", trial.params))
            for trial in self._study.get_trials(deepcopy=False)
        ]

    def enqueue(self, values: Mapping[str, Any]) -> None:
        """Add a trial that waits for its turn.

        Args:
            values: of some or all axes; the sampler chooses the others.
        """
        self._study.enqueue_trial(dict(values))

    def open_trials(self) -> list[int]:
        """Numbers of the trials that have begun, and whose end is not recorded: they are run, or were interrupted."""
        return [t.number for t in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]

    def values_of(self, number: int) -> Params:
        """The values of a trial that has begun."""
        return self._suggest(self._trial(number))[1]

    def _trial(self, number: int) -> Trial:
        """Return a trial that has begun, in this process or another."""
        return Trial(self._study, self._recorded(number)._trial_id)

    def _recorded(self, number: int) -> FrozenTrial:
        """What the study has recorded of a trial."""
        return self._study.get_trials(deepcopy=False)[number]

    def next(self) -> tuple[int, Params] | None:
        """Number and values of the next trial; None if none is enqueued."""
        if not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return None
        return self._suggest(self._study.ask())

    def _suggest(self, trial: Trial) -> tuple[int, Params]:
        named = self._recorded(trial.number).system_attrs.get("fixed_params", {})
        axes = [axis for axis in self.axes if axis.key in named] if self._listed else self.axes
        return trial.number, {axis.key: _suggest_value(trial, axis) for axis in axes}

    def finish(self, number: int, value: float | Sequence[float] | None, state: str, reason: str | None = None) -> None:
        """Record how a trial ended.

        Args:
            number: of the trial.
            value: of the objective, or of each where there are several; None if there is none.
            state: ``finished``, ``pruned`` or ``failed``.
            reason: for a person.
        """
        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        if reason is not None:
            self._storage.set_trial_user_attr(self._recorded(number)._trial_id, "reason", reason)
        self._study.tell(number, value if state == "finished" else None, state=states[state])


def distribution(axis: Axis) -> BaseDistribution:
    """Return the Optuna distribution of an axis; listed values are categories, even if they are numbers."""
    if isinstance(axis, Choices):
        return CategoricalDistribution(axis.values)
    if axis.integer:
        return IntDistribution(round(axis.low), round(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _suggest_value(trial: Trial, axis: Axis) -> str:
    if isinstance(axis, Choices):
        return str(trial.suggest_categorical(axis.key, axis.values))
    if axis.integer:
        return format_number(trial.suggest_int(axis.key, round(axis.low), round(axis.high), log=axis.log), axis)
    return format_number(trial.suggest_float(axis.key, axis.low, axis.high, log=axis.log), axis)
