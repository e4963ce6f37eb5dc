"""Whether a trial goes on after a validation, as an Optuna pruner decides; and how verdicts are recorded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from lx.run.verdict import GO_ON, PAUSE, PRUNE, Report

_RECORD = "lx_verdict_"


def record_verdict(
    study: Study, trial: FrozenTrial, validation: int, verdict: str, notes: Mapping[str, Any] | None = None
) -> None:
    """Record the verdict on a trial after a validation; ``notes`` are the attributes that the pruner would set."""
    record: dict[str, Any] = {"verdict": verdict, "notes": dict(notes or {})}
    study._storage.set_trial_system_attr(trial._trial_id, f"{_RECORD}{validation}", record)


def recorded_verdicts(trial: FrozenTrial) -> dict[int, str]:
    """The verdicts on a trial, by validation."""
    return {
        int(name.removeprefix(_RECORD)): record["verdict"]
        for name, record in trial.system_attrs.items()
        if name.startswith(_RECORD)
    }


def is_paused(trial: FrozenTrial) -> bool:
    """Whether the last verdict on a trial was to pause."""
    recorded = recorded_verdicts(trial)
    return bool(recorded) and recorded[max(recorded)] == PAUSE


class Judge(Protocol):
    """Decides about trials from what they report."""

    def verdict(self, trial: FrozenTrial, report: Report) -> str:
        """Whether a trial goes on, ends or pauses; the same answer if asked again."""


class PrunerJudge:
    """Asks an Optuna pruner.

    Pruners by successive halving write the rungs that a trial has reached into its attributes, and would answer
    differently if asked again after a crash. So these writes are collected, recorded together with the verdict as its
    notes, and applied only then.

    Args:
        study: of the sweep.
        build: builds the pruner, anew for each verdict, so that the study alone decides.
    """

    def __init__(self, study: Study, build: Callable[[], BasePruner]) -> None:
        self._study = study
        self._build = build

    def verdict(self, trial: FrozenTrial, report: Report) -> str:
        """See :class:`Judge`."""
        storage = self._study._storage
        if report.validation not in recorded_verdicts(trial):
            collecting = _CollectingStorage(storage)
            study = copy.copy(self._study)
            study._storage = collecting  # type: ignore[assignment]
            verdict = PRUNE if self._build().prune(study, trial) else GO_ON
            record_verdict(self._study, trial, report.validation, verdict, collecting.attributes)
            trial = storage.get_trial(trial._trial_id)
        for name, value in trial.system_attrs[f"{_RECORD}{report.validation}"]["notes"].items():
            storage.set_trial_system_attr(trial._trial_id, name, value)
        return recorded_verdicts(trial)[report.validation]


class _CollectingStorage:
    """Reads from another storage, but collects the attributes of trials instead of writing them."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.attributes: dict[str, Any] = {}

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Collect an attribute."""
        self.attributes[key] = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)
