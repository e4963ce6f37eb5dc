"""Run the unfinished trials of a sweep beside other workers: choose a run, claim it, start it, record how it ended."""

from __future__ import annotations

import math
import signal
import statistics
from contextlib import ExitStack

from lx.errors import LxError
from lx.sweep.limits import beyond_limits
from lx.sweep.scheduler import Job, Process, Stop, run_jobs
from lx.sweep.slots import Slot, slots_for
from lx.sweep.starter import Starter
from lx.sweep.state import Sweep
from lx.sweep.trials import ENDED_WELL, Replicate, TrialDirectory, why_failed
from lx.sweep.view import View

_LEAST_SHARE = 0.5  # of the time of a typical run: with less time left, no further trial begins
_LEAST_S = 2.0  # a typical run counts as this long at least
_FIRST_SIGNAL_CODE = 128  # a run that ends because of a signal has this exit code or a larger one, or a negative one


class Runner:
    """One of the workers that run the trials of a sweep."""

    def __init__(self, sweep: Sweep, view: View, stop: Stop) -> None:
        self._sweep = sweep
        self._view = view
        self._stop = stop
        self._others_run = False  # whether runs are left to do: other workers hold those not claimed here

    def run(self) -> int:
        """Run what is missing, and wait while other workers run the rest: if one of them dies, this one takes over.

        Returns:
            The exit code: that of the signal if one stopped the sweep; else 1 if trials failed, and 0 otherwise.
        """
        sweep = self._sweep
        slots = slots_for(sweep.plan.settings["n_jobs"], sweep.plan.settings["per_gpu"], sweep.plan.hardware)
        with ExitStack() as stack:
            self._starter = Starter(sweep.plan, sweep.hydra, sweep.record.threads, sweep.directory.resolve().name)
            stack.callback(self._starter.close)
            stack.enter_context(self._view.live())
            run_jobs(slots, self._next, self._start, self._ended, self._stop, self._watch, lambda: self._others_run)
        with sweep.exclusive():
            sweep.write_leaderboard()
        return self._stop.exit_code or int(any(trial.failures for trial in sweep.trials.values()))

    def _watch(self, running: list[Job]) -> None:
        """Keep the claims on runs that are under way, answer their reports, and show them; called often."""
        sweep = self._sweep
        if sweep.claims.beat():
            for job in running:
                if not sweep.claims.holds(job.replicate):
                    job.process.send_signal(signal.SIGKILL)
        for replicate in [job.replicate for job in running]:
            if sweep.hearing is not None and sweep.hearing.has_news(replicate.run):
                with sweep.exclusive():
                    sweep.hear(replicate)
        self._view.show(running)

    def _next(self) -> Replicate | None:
        """Choose and claim what to run next; None if there is nothing at the moment."""
        with self._sweep.exclusive():
            self._others_run = False
            if self._has_failed_too_often():
                return None
            replicate = self._claim_from_begun() or self._promote(last=False) or self._claim_from_next()
            if replicate is not None or self._others_run:
                return replicate
            return self._promote(last=True) or self._claim_confirmation()

    def _has_failed_too_often(self) -> bool:
        max_failures = self._sweep.plan.settings["max_failures"]
        num_failures = sum(bool(trial.failures) for trial in self._sweep.trials.values())
        return max_failures is not None and num_failures >= max_failures

    def _claim_from_begun(self) -> Replicate | None:
        """Claim a run of a trial that has begun."""
        sweep = self._sweep
        for number in sweep.study.open_trials():
            if number not in sweep.trials:  # the worker that took it died before it wrote trial.json
                sweep.begin(number, sweep.study.values_of(number))
        unfinished = [sweep.trials[number] for number in sorted(sweep.trials.keys() - sweep.closed)]
        return next(filter(None, map(self._claim_run, unfinished)), None)

    def _claim_from_next(self) -> Replicate | None:
        """Begin the next trial of the study, and claim a run of it."""
        while self._has_time() and (next_trial := self._sweep.study.next()) is not None:
            if (replicate := self._claim_run(self._sweep.begin(*next_trial))) is not None:
                return replicate
        return None

    def _has_time(self) -> bool:
        """Whether the time that is left is worth another trial; only ``sweep=auto`` fits its runs into the budget."""
        if not self._sweep.plan.is_automatic:
            return True
        trials = self._sweep.trials.values()
        seconds = [run.outcome().seconds for trial in trials for run in trial.replicates()]
        typical = max(statistics.median(seconds) if seconds else 0.0, _LEAST_S)
        return self._stop.seconds_left > _LEAST_SHARE * typical

    def _claim_confirmation(self) -> Replicate | None:
        """Claim a run on a fresh seed, now that the ranking is settled."""
        missing = self._sweep.choice.unconfirmed(self._sweep.trials.values())
        self._others_run = bool(missing)
        return next(filter(self._sweep.claims.take, missing), None)

    def _promote(self, last: bool) -> Replicate | None:
        number = self._sweep.choice.promote(self._sweep.trials.values(), last)
        return None if number is None else self._claim_run(self._sweep.trials[number])

    def _claim_run(self, trial: TrialDirectory) -> Replicate | None:
        """Claim one of the runs that a trial lacks; None if it lacks none, or other workers run them."""
        sweep = self._sweep
        if sweep.choice.is_paused(trial):
            return None
        missing = [] if trial.failures else sweep.choice.missing(trial, sweep.trials)
        if not missing:
            sweep.closed.add(trial.number)
            if trial.number in sweep.study.open_trials():  # the worker died before it recorded the end
                sweep.record_end(trial)
            return None
        self._others_run = True
        return next(filter(sweep.claims.take, missing), None)

    def _start(self, replicate: Replicate, slot: Slot) -> Process | None:
        """Start a run, or go on with one that was interrupted."""
        sweep = self._sweep
        try:
            seconds_left = self._stop.seconds_left if sweep.plan.is_automatic else math.inf
            self._starter.prepare(replicate, sweep.trials[replicate.trial].params, seconds_left)
            if sweep.hearing is not None and sweep.choice.is_judged(replicate, sweep.trials[replicate.trial]):
                sweep.hearing.open(replicate.trial, replicate.run)
            return self._starter.start(replicate, slot)
        except LxError as error:
            with sweep.exclusive():
                sweep.claims.release(replicate)
                sweep.fail(replicate, f"bad config: {error}")
            return None

    def _ended(self, job: Job, code: int) -> None:
        """Record how a run ended; one that a signal ended stays open for another attempt."""
        sweep, replicate = self._sweep, job.replicate
        sweep.closed.discard(replicate.trial)
        with sweep.exclusive():
            sweep.hear(replicate)
            if not sweep.claims.release(replicate):
                return  # another worker has taken it over
            trial, outcome = sweep.trials[replicate.trial], replicate.outcome()
            if code == 0 and outcome.status in ENDED_WELL:
                if reason := beyond_limits(replicate, sweep.plan.settings):
                    trial.drop(reason, infeasible=True)
                if not sweep.choice.is_paused(trial) and not sweep.choice.missing(trial, sweep.trials):
                    sweep.record_end(trial)
                return
            reason = why_failed(code, outcome, replicate.last_lines())
            if sweep.plan.is_automatic and "trainer.max_minutes=" in reason:
                trial.drop("too little time was left for it")
                sweep.record_end(trial)
                return
            ended_by_signal = code < 0 or code >= _FIRST_SIGNAL_CODE or reason.startswith("killed")
            if ended_by_signal and self._stop.exit_code is not None:
                return  # this worker was stopped: the run can be resumed
            attempts = trial.attempts.get(replicate.seed, 0)
            if ended_by_signal and attempts < sweep.plan.settings["retries"]:
                trial.attempts[replicate.seed] = attempts + 1
                trial.save()
                return
            sweep.fail(replicate, reason)
