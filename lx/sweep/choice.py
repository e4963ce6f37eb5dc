"""Choose the runs of a sweep that may start now: further seeds of a trial wait for its verdicts and its race."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from lx.sweep.hearing import Hearing
from lx.sweep.leaderboard import rank_trials
from lx.sweep.plan import Plan
from lx.sweep.race import gap_behind
from lx.sweep.trials import DONE, Mean, Replicate, TrialDirectory

_FRESH = 1000  # distance from the first seed to the first fresh one: a larger sweep may take seeds in between


class Choice:
    """Decides from the sweep's directory and from the recorded verdicts which runs may start.

    Args:
        plan: of the sweep.
        hearing: answers the reports of its trials; None: every run trains to its end.
    """

    def __init__(self, plan: Plan, hearing: Hearing | None) -> None:
        self._plan = plan
        self._hearing = hearing

    def is_judged(self, replicate: Replicate, trial: TrialDirectory) -> bool:
        """Whether a run is judged after each validation: only that of the trial's first seed is."""
        return self._hearing is not None and replicate.seed == trial.seeds[0]

    def is_paused(self, trial: TrialDirectory) -> bool:
        """Whether a trial waits for promotion."""
        paused = bool(trial.seeds) and trial.replicate(trial.seeds[0]).outcome().status == "paused"
        return paused and self._hearing is not None and self._hearing.is_paused(trial.number)

    def missing(self, trial: TrialDirectory, trials: Mapping[int, TrialDirectory]) -> list[Replicate]:
        """Return the runs of a trial that are not done and may start now.

        The first seed of a judged trial finishes before the others start. In a race one seed runs at a time.

        Args:
            trial: one that has neither failed nor paused. Seeds that the sweep has gained since are added to it. If it
                has lost the race, it is dropped.
            trials: of the sweep, by number.
        """
        if more := [seed for seed in self._plan.space.seeds if seed not in trial.seeds]:
            trial.seeds = [*trial.seeds, *more]
            trial.save()
        missing = [replicate for replicate in trial.replicates() if replicate.outcome().status not in DONE]
        first = trial.replicates()[0]
        status = first.outcome().status
        if trial.dropped or status == "pruned":
            return []
        if self._hearing is not None and status != "finished":
            return [first]
        if not missing or not self._plan.settings["race"]:
            return missing
        if gap := self._gap(trial, trials.values()):
            trial.drop(f"behind the best by {gap} over {gap.count} seeds")
            return []
        return missing[:1]

    def _gap(self, trial: TrialDirectory, trials: Iterable[TrialDirectory]) -> Mean | None:
        """Return the gap to the best trial with all seeds done; None without one, or if chance may explain the gap."""
        others = [_objectives(other) for other in trials if other is not trial and not other.failures]
        complete = [values for values in others if set(self._plan.space.seeds) <= values.keys()]
        if not complete:
            return None
        mode = self._plan.mode
        best = (max if mode == "max" else min)(complete, key=lambda values: sum(values.values()) / len(values))
        return gap_behind(_objectives(trial), best, mode)

    def promote(self, trials: Iterable[TrialDirectory], last: bool) -> int | None:
        """Choose a paused trial that goes on.

        Args:
            trials: of the sweep.
            last: whether no trial is left to begin, and none is running.

        Returns:
            Its number; None: none is good enough.
        """
        if self._hearing is None:
            return None
        return self._hearing.promote([trial.number for trial in trials if self.is_paused(trial)], last)

    def unconfirmed(self, trials: Iterable[TrialDirectory]) -> list[Replicate]:
        """Return the runs on fresh seeds that the best trials still need, and add these seeds to the trials.

        Args:
            trials: of the sweep, of which none is left to run.
        """
        num_best = self._plan.settings["confirm"]
        if not num_best:
            return []
        rows = rank_trials(trials, self._plan.metric, self._plan.mode)
        best = [row.trial for row in rows if row.state == "finished"][:num_best]
        fresh = self._fresh_seeds()
        for trial in best:
            if more := [seed for seed in fresh if seed not in trial.fresh_seeds]:
                trial.fresh_seeds = [*trial.fresh_seeds, *more]
                trial.save()
        return [
            replicate
            for trial in best
            for replicate in trial.confirmations()
            if replicate.seed not in trial.failures and replicate.outcome().status not in DONE
        ]

    def _fresh_seeds(self) -> list[int]:
        seeds = self._plan.space.seeds
        unused = (seed for seed in itertools.count(min(seeds) + _FRESH) if seed not in seeds)
        return list(itertools.islice(unused, self._plan.settings["confirm_seeds"] or len(seeds)))


def _objectives(trial: TrialDirectory) -> dict[int, float]:
    """Return the objectives of the runs that have finished, by seed."""
    outcomes = {replicate.seed: replicate.outcome() for replicate in trial.replicates()}
    return {
        seed: outcome.objective
        for seed, outcome in outcomes.items()
        if outcome.status == "finished" and outcome.objective is not None
    }
