"""A sweep as its directory and its study record it: what has begun, how it stands, how it ended."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lx.sweep.choice import Choice
from lx.sweep.claims import Claims
from lx.sweep.hearing import build_hearing
from lx.sweep.leaderboard import Row, further_means, rank_trials, write_leaderboard
from lx.sweep.plan import Plan, make_plan
from lx.sweep.record import Record
from lx.sweep.space import Params
from lx.sweep.storage import open_storage
from lx.sweep.study import JOURNAL_NAME, SeededSampler, SweepStudy
from lx.sweep.trials import Mean, Replicate, TrialDirectory, load_trials

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

_DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}


class Sweep:
    """A sweep in its directory, as one of its workers sees it.

    Workers share nothing but the directory. A worker chooses what to run next, and records how a run ended, under
    ``exclusive()``, which first reads what others have written: a decision follows from the directory alone, never
    from what this process remembers. ``trial.json``, the study and ``leaderboard.csv`` are written only under it; a
    run's directory is written by the holder of its claim and by the process that trains.

    Args:
        directory: holds ``sweep.json``, ``journal.log``, ``leaderboard.csv`` and a folder for each trial.
        plan: what to do.
        hydra: an open session.
        claims: of this worker; held exclusively while the sweep is opened and planned.

    Attributes:
        trials: that have begun, by number.
        closed: numbers of those with nothing left to run or to record.
    """

    def __init__(self, directory: Path, plan: Plan, hydra: Hydra, claims: Claims) -> None:
        self.directory = directory
        self.hydra = hydra
        self.claims = claims
        self.trials: dict[int, TrialDirectory] = {}
        self.closed: set[int] = set()
        self._follow(plan, Record.read(directory))
        self.refresh()

    def _follow(self, plan: Plan, record: Record) -> None:
        self.plan, self.record = plan, record
        self.study = self._open_study()
        self.hearing = build_hearing(self.study.optuna, plan.settings)
        self.choice = Choice(plan, self.hearing)

    def _open_study(self) -> SweepStudy:
        sampler = self.plan.settings["sampler"]
        return SweepStudy(
            open_storage(self.directory, self.record.study),
            self.record.study or JOURNAL_NAME,
            self.plan.axes,
            _DIRECTIONS[self.plan.mode],
            None if sampler is None else SeededSampler(partial(_build_sampler, sampler), self.plan.settings["seed"]),
            [_DIRECTIONS[mode] for mode in self.plan.further_objectives.values()],
        )

    def enqueue_trials(self) -> None:
        """Enqueue the planned trials that the study lacks; there are never more trials than planned."""
        if self.plan.listed is not None:
            known = {json.dumps(values, sort_keys=True) for values in self.study.planned()}
            for params in self.plan.listed:
                if json.dumps(params, sort_keys=True) not in known:
                    self.study.enqueue(params)
        else:
            for number in range(len(self.study), self.plan.num_trials):
                self.study.enqueue(self.plan.defaults if number == 0 else {})

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the sweep's lock while the block runs, having read what other workers have written."""
        with self.claims.exclusive():
            record = Record.read(self.directory)
            if record != self.record:  # a command has made the sweep larger meanwhile
                self._follow(make_plan(self.hydra, record.overrides, record.config_dir, num_checked=1), record)
                self.closed.clear()
            self.refresh()
            yield

    def refresh(self) -> None:
        """Read what other workers may have written: trials that they began, and how the open ones stand."""
        self.trials.update((trial.number, trial) for trial in load_trials(self.directory, self.closed))

    def begin(self, number: int, params: Params) -> TrialDirectory:
        """Write down a trial that begins."""
        trial = TrialDirectory(number, self.directory / str(number), params, [], self.record.flat_seed)
        trial.save()
        self.trials[number] = trial
        return trial

    def hear(self, replicate: Replicate) -> None:
        """Answer what a run has reported, if it is judged."""
        if self.hearing is not None and self.choice.is_judged(replicate, self.trials[replicate.trial]):
            self.hearing.hear(replicate.trial, replicate.run)

    def fail(self, replicate: Replicate, reason: str) -> None:
        """Record why a run failed; the other seeds of its trial would fail, too, and are not begun."""
        trial = self.trials[replicate.trial]
        trial.failures[replicate.seed] = reason
        trial.save()
        self.record_end(trial)

    def record_end(self, trial: TrialDirectory) -> None:
        """Record in the study how a trial ended, once: seeds that are added later change the leaderboard alone."""
        self.closed.add(trial.number)
        if trial.number in self.study.open_trials():
            outcomes = [replicate.outcome() for replicate in trial.replicates()]
            objective = Mean.of([outcome.objective for outcome in outcomes if outcome.objective is not None])
            means = [objective, *further_means(outcomes, tuple(self.plan.further_objectives)).values()]
            values = [mean.mean for mean in means if mean is not None and not math.isnan(mean.mean)]
            if trial.failures or len(values) < len(means):
                self.study.finish(trial.number, None, "failed", "; ".join(trial.failures.values()))
            else:
                pruned = trial.infeasible or any(outcome.status == "pruned" for outcome in outcomes)
                self.study.finish(trial.number, values, "pruned" if pruned else "finished")
        self.write_leaderboard()

    def write_leaderboard(self) -> None:
        """Write ``leaderboard.csv``."""
        write_leaderboard(self.directory / "leaderboard.csv", self.ranking(), self.plan.metric)

    def ranking(self) -> list[Row]:
        """The trials so far, the best first."""
        plan = self.plan
        return rank_trials(self.trials.values(), plan.metric, plan.mode, plan.further_objectives)


def _build_sampler(node: Mapping[str, Any], seed: int) -> Any:
    from hydra.utils import instantiate

    return instantiate(dict(node))(seed=seed)
