"""Run the planned trials of a sweep that are not done yet, beside other workers: choose, start, record, rank."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lx.errors import LxError
from lx.sweep.choice import Choice
from lx.sweep.claims import Claims
from lx.sweep.hearing import build_hearing
from lx.sweep.leaderboard import Row, further_means, rank_trials, write_leaderboard
from lx.sweep.plan import Plan, make_plan
from lx.sweep.record import Record
from lx.sweep.scheduler import Job, Process, Stop, run_jobs
from lx.sweep.slots import Slot, slots_for
from lx.sweep.space import Params
from lx.sweep.starter import Starter
from lx.sweep.storage import open_storage
from lx.sweep.study import JOURNAL_NAME, SeededSampler, SweepStudy
from lx.sweep.trials import ENDED_WELL, Mean, Replicate, TrialDirectory, load_trials, why_failed
from lx.sweep.view import View

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

_FIRST_SIGNAL_CODE = 128  # a run that ends because of a signal has this exit code or a larger one, or a negative one

_DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}


class Sweep:
    """A sweep in its directory, as one of the workers sees it that run its trials.

    Workers share nothing but the directory. What to run next is chosen, and an end is recorded, under
    ``exclusive()``, where what others wrote has been read: a decision follows from the directory
    alone, never from what this process remembers. ``trial.json``, the study and ``leaderboard.csv`` are written there
    alone, and what lies in a run's directory by the holder of its claim and the process that trains.

    Args:
        directory: holds ``sweep.json``, ``journal.log``, ``leaderboard.csv`` and a folder for each trial.
        plan: what to do.
        hydra: an open session.
        claims: of this worker; held exclusively while the sweep is opened and planned.
    """

    def __init__(self, directory: Path, plan: Plan, hydra: Hydra, claims: Claims) -> None:
        self.directory = directory
        self.plan = plan
        self.trials: dict[int, TrialDirectory] = {}
        self.claims = claims
        self._hydra = hydra
        self._record = Record.read(directory)
        self._study = self._open_study()
        self._hearing = build_hearing(self._study.optuna, plan.settings)
        self._choice = Choice(plan, self._hearing)
        self._starter: Starter | None = None
        self._closed: set[int] = set()  # trials with nothing left to run or to record
        self._others_run = False
        self.refresh()

    def _open_study(self) -> SweepStudy:
        sampler = self.plan.settings["sampler"]
        return SweepStudy(
            open_storage(self.directory, self._record.study),
            self._record.study or JOURNAL_NAME,
            self.plan.axes,
            _DIRECTIONS[self.plan.mode],
            None if sampler is None else SeededSampler(partial(_build_sampler, sampler), self.plan.settings["seed"]),
            [_DIRECTIONS[mode] for mode in self.plan.further_objectives.values()],
        )

    def enqueue_trials(self) -> None:
        """Enqueue the planned trials that the study lacks; there are never more trials than planned."""
        if self.plan.listed is not None:
            known = {json.dumps(values, sort_keys=True) for values in self._study.planned()}
            for params in self.plan.listed:
                if json.dumps(params, sort_keys=True) not in known:
                    self._study.enqueue(params)
        else:
            for number in range(len(self._study), self.plan.num_trials):
                self._study.enqueue(self.plan.defaults if number == 0 else {})

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Choose or record while the block runs: no other worker does, and this one has read what others wrote."""
        with self.claims.exclusive():
            self._take_in_extension()
            self.refresh()
            yield

    def _take_in_extension(self) -> None:
        """Go on with the plan of a command that made the sweep larger meanwhile."""
        record = Record.read(self.directory)
        if record != self._record:
            self._record = record
            self.plan = make_plan(self._hydra, record.overrides, record.config_dir, num_checked=1)
            self._study = self._open_study()
            self._hearing = build_hearing(self._study.optuna, self.plan.settings)
            self._choice = Choice(self.plan, self._hearing)
            self._closed.clear()

    def refresh(self) -> None:
        """Read what other workers may have written: trials that they began, and how the open ones stand."""
        self.trials.update((trial.number, trial) for trial in load_trials(self.directory, self._closed))

    def run(self, view: View, stop: Stop) -> int:
        """Run what is missing, until nothing is: what other workers run may come back to this one.

        Args:
            view: shows progress.
            stop: whether to stop.

        Returns:
            The exit code: that of the signal if one stopped the sweep; else 1 if trials failed, and 0 otherwise.
        """
        slots = slots_for(self.plan.settings["n_jobs"], self.plan.settings["per_gpu"], self.plan.hardware)
        with ExitStack() as stack:
            self._starter = Starter(self.plan, self._hydra, self._record.threads, self.directory.resolve().name)
            stack.callback(self._starter.close)
            stack.enter_context(view.live())
            run_jobs(
                slots,
                self.next_replicate,
                self.start,
                partial(self.handle_end, stop),
                stop,
                partial(self.watch, view),
                lambda: self._others_run,
            )
        with self.exclusive():
            self.write_leaderboard()
        return stop.exit_code or int(any(trial.failures for trial in self.trials.values()))

    def watch(self, view: View, running: list[Job]) -> None:
        """Keep the claims on runs that are under way, and show them; called often."""
        if self.claims.beat():
            for job in running:
                if not self.claims.holds(job.replicate):
                    job.process.send_signal(signal.SIGKILL)
        for replicate in [job.replicate for job in running]:
            if self._hearing is not None and self._hearing.has_news(replicate.run):
                with self.exclusive():
                    self._hear(replicate)
        view.show(running)

    def _hear(self, replicate: Replicate) -> None:
        """Answer what a run has reported, if it is judged."""
        if self._hearing is not None and self._choice.is_judged(replicate, self.trials[replicate.trial]):
            self._hearing.hear(replicate.trial, replicate.run)

    def next_replicate(self) -> Replicate | None:
        """Choose and claim what to run next; None: nothing at the moment."""
        with self.exclusive():
            self._others_run = False
            max_failures = self.plan.settings["max_failures"]
            num_failures = sum(bool(trial.failures) for trial in self.trials.values())
            if max_failures is not None and num_failures >= max_failures:
                return None
            for number in self._study.open_trials():
                if number not in self.trials:  # its worker died before it had written it down
                    self._begin(number, self._study.values_of(number))
            for trial in [self.trials[number] for number in sorted(self.trials.keys() - self._closed)]:
                if (replicate := self._claim_run(trial)) is not None:
                    return replicate
            if (replicate := self._promote(last=False)) is not None:
                return replicate
            while (asked := self._study.next()) is not None:
                if (replicate := self._claim_run(self._begin(*asked))) is not None:
                    return replicate
            if self._others_run:
                return None
            return self._promote(last=True) or self._claim_confirmation()

    def _claim_confirmation(self) -> Replicate | None:
        """Claim a run on a fresh seed, now that the ranking is settled."""
        missing = self._choice.unconfirmed(self.trials.values())
        self._others_run = bool(missing)
        return next(filter(self.claims.take, missing), None)

    def _promote(self, last: bool) -> Replicate | None:
        number = self._choice.promote(self.trials.values(), last)
        return None if number is None else self._claim_run(self.trials[number])

    def _begin(self, number: int, params: Params) -> TrialDirectory:
        """Write down a trial that begins."""
        trial = TrialDirectory(number, self.directory / str(number), params, [], self._record.flat_seed)
        trial.save()
        self.trials[number] = trial
        return trial

    def _claim_run(self, trial: TrialDirectory) -> Replicate | None:
        """Claim one of the runs that a trial lacks; None: it lacks none, or others run them."""
        if self._choice.is_paused(trial):
            return None
        missing = [] if trial.failures else self._choice.missing(trial, self.trials)
        if not missing:
            self._closed.add(trial.number)
            if trial.number in self._study.open_trials():  # its worker died before it had recorded the end
                self._record_end(trial)
            return None
        self._others_run = True
        return next(filter(self.claims.take, missing), None)

    def start(self, replicate: Replicate, slot: Slot) -> Process | None:
        """Start a run, or go on with one that was interrupted."""
        assert self._starter is not None
        try:
            self._starter.prepare(replicate, self.trials[replicate.trial].params)
            if self._hearing is not None and self._choice.is_judged(replicate, self.trials[replicate.trial]):
                self._hearing.open(replicate.trial, replicate.run)
            return self._starter.start(replicate, slot)
        except LxError as error:
            with self.exclusive():
                self.claims.release(replicate)
                self._fail(replicate, f"bad config: {error}")
            return None

    def handle_end(self, stop: Stop, job: Job, code: int) -> None:
        """Record that a run has ended, or leave it to a further attempt if a signal ended it."""
        replicate = job.replicate
        self._closed.discard(replicate.trial)
        with self.exclusive():
            self._hear(replicate)
            if not self.claims.release(replicate):
                return  # another worker has taken it over
            trial, outcome = self.trials[replicate.trial], replicate.outcome()
            if code == 0 and outcome.status in ENDED_WELL:
                if not self._choice.is_paused(trial) and not self._choice.missing(trial, self.trials):
                    self._record_end(trial)
                return
            reason = why_failed(code, outcome, replicate.last_lines())
            ended_by_signal = code < 0 or code >= _FIRST_SIGNAL_CODE or reason.startswith("killed")
            if ended_by_signal and stop.exit_code is not None:
                return  # this worker was stopped: the run can be resumed
            attempts = trial.attempts.get(replicate.seed, 0)
            if ended_by_signal and attempts < self.plan.settings["retries"]:
                trial.attempts[replicate.seed] = attempts + 1
                trial.save()
                return
            self._fail(replicate, reason)

    def _fail(self, replicate: Replicate, reason: str) -> None:
        """Record why a run failed; the other seeds of its trial would fail, too, and are not begun."""
        trial = self.trials[replicate.trial]
        trial.failures[replicate.seed] = reason
        trial.save()
        self._record_end(trial)

    def _record_end(self, trial: TrialDirectory) -> None:
        """Record in the study how a trial ended, once: seeds that are added later change the leaderboard alone."""
        self._closed.add(trial.number)
        if trial.number in self._study.open_trials():
            outcomes = [replicate.outcome() for replicate in trial.replicates()]
            objective = Mean.of([outcome.objective for outcome in outcomes if outcome.objective is not None])
            means = [objective, *further_means(outcomes, tuple(self.plan.further_objectives)).values()]
            values = [mean.mean for mean in means if mean is not None and not math.isnan(mean.mean)]
            if trial.failures or len(values) < len(means):
                self._study.finish(trial.number, None, "failed", "; ".join(trial.failures.values()))
            else:
                pruned = any(outcome.status == "pruned" for outcome in outcomes)
                self._study.finish(trial.number, values, "pruned" if pruned else "finished")
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
