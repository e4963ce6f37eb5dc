"""Run the trials of a sweep that are not done yet, beside other workers: choose, claim, start, take in the end."""

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

_LEAST_SHARE, _LEAST_S = 0.5, 2.0  # of the seconds of a typical run, below which no further one begins
_FIRST_SIGNAL_CODE = 128  # a run that ends because of a signal has this exit code or a larger one, or a negative one


class Runner:
    """One of the workers that run the trials of a sweep.

    Args:
        sweep: its own view of it.
        view: shows progress.
        stop: whether to stop.
    """

    def __init__(self, sweep: Sweep, view: View, stop: Stop) -> None:
        self._sweep = sweep
        self._view = view
        self._stop = stop
        self._others_run = False

    def run(self) -> int:
        """Run what is missing, until nothing is: what other workers run may come back to this one.

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
        """Choose and claim what to run next; None: nothing at the moment."""
        sweep = self._sweep
        with sweep.exclusive():
            self._others_run = False
            max_failures = sweep.plan.settings["max_failures"]
            num_failures = sum(bool(trial.failures) for trial in sweep.trials.values())
            if max_failures is not None and num_failures >= max_failures:
                return None
            for number in sweep.study.open_trials():
                if number not in sweep.trials:  # its worker died before it had written it down
                    sweep.begin(number, sweep.study.values_of(number))
            for trial in [sweep.trials[number] for number in sorted(sweep.trials.keys() - sweep.closed)]:
                if (replicate := self._claim_run(trial)) is not None:
                    return replicate
            if (replicate := self._promote(last=False)) is not None:
                return replicate
            while self._has_time() and (asked := sweep.study.next()) is not None:
                if (replicate := self._claim_run(sweep.begin(*asked))) is not None:
                    return replicate
            if self._others_run:
                return None
            return self._promote(last=True) or self._claim_confirmation()

    def _has_time(self) -> bool:
        """Whether a further trial could come to something in the time that is left; others end with the budget."""
        trials = self._sweep.trials.values()
        seconds = [run.outcome().seconds for trial in trials for run in trial.replicates()]
        typical = max((statistics.median(seconds) if seconds else 0.0), _LEAST_S)
        return not self._sweep.plan.is_automatic or self._stop.seconds_left > _LEAST_SHARE * typical

    def _claim_confirmation(self) -> Replicate | None:
        """Claim a run on a fresh seed, now that the ranking is settled."""
        missing = self._sweep.choice.unconfirmed(self._sweep.trials.values())
        self._others_run = bool(missing)
        return next(filter(self._sweep.claims.take, missing), None)

    def _promote(self, last: bool) -> Replicate | None:
        number = self._sweep.choice.promote(self._sweep.trials.values(), last)
        return None if number is None else self._claim_run(self._sweep.trials[number])

    def _claim_run(self, trial: TrialDirectory) -> Replicate | None:
        """Claim one of the runs that a trial lacks; None: it lacks none, or others run them."""
        sweep = self._sweep
        if sweep.choice.is_paused(trial):
            return None
        missing = [] if trial.failures else sweep.choice.missing(trial, sweep.trials)
        if not missing:
            sweep.closed.add(trial.number)
            if trial.number in sweep.study.open_trials():  # its worker died before it had recorded the end
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
        """Record that a run has ended, or leave it to a further attempt if a signal ended it."""
        sweep, replicate = self._sweep, job.replicate
        sweep.closed.discard(replicate.trial)
        with sweep.exclusive():
            sweep.hear(replicate)
            if not sweep.claims.release(replicate):
                return  # another worker has taken it over
            trial, outcome = sweep.trials[replicate.trial], replicate.outcome()
            if code == 0 and outcome.status in ENDED_WELL:
                if reason := beyond_limits(replicate, sweep.plan.settings):
                    trial.dropped, trial.infeasible = reason, True
                    trial.save()
                if not sweep.choice.is_paused(trial) and not sweep.choice.missing(trial, sweep.trials):
                    sweep.record_end(trial)
                return
            reason = why_failed(code, outcome, replicate.last_lines())
            if sweep.plan.is_automatic and "trainer.max_minutes=" in reason:
                trial.dropped = "too little time was left for it"
                trial.save()
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
