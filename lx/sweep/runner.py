"""Run the planned trials of a sweep that are not done yet: start their runs, record how they end, rank them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lx.config.compose import compose_with
from lx.errors import LxError
from lx.launch.command import has_ranks, worker_command
from lx.launch.forkserver import ForkServer
from lx.launch.local import prepare_run
from lx.sweep.leaderboard import rank_trials, write_leaderboard
from lx.sweep.plan import Plan
from lx.sweep.scheduler import Job, Process, Stop, run_jobs, start_command
from lx.sweep.slots import Slot, slots_for, threads_each
from lx.sweep.space import Params, overrides_of
from lx.sweep.study import SeededSampler, SweepStudy
from lx.sweep.trials import DONE, Mean, Replicate, TrialDirectory, load_trials, why_failed
from lx.sweep.view import View
from lx.system.files import atomic_write_json
from lx.system.git import revision
from lx.system.processes import child_environment

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

_FIRST_SIGNAL_CODE = 128  # a run that ends because of a signal has this exit code or a larger one, or a negative one


class Sweep:
    """A sweep in its directory.

    Args:
        directory: holds ``sweep.json``, ``journal.log``, ``leaderboard.csv`` and a folder for each trial.
        plan: what to do.
        hydra: an open session.
    """

    def __init__(self, directory: Path, plan: Plan, hydra: Hydra) -> None:
        self.directory = directory
        self.plan = plan
        self.trials: dict[int, TrialDirectory] = {trial.number: trial for trial in load_trials(directory)}
        self._hydra = hydra
        self._queue: deque[Replicate] = deque()
        self._flat_seed = self._read_flat_seed()
        sampler = plan.settings["sampler"]
        self._study = SweepStudy(
            directory / "journal.log",
            plan.axes,
            "maximize" if plan.mode == "max" else "minimize",
            None if sampler is None else SeededSampler(partial(_build_sampler, sampler), plan.settings["seed"]),
        )
        self._unrecorded: set[int] = set()  # trials that have begun, and whose end the study has not recorded
        self._server: ForkServer | None = None

    def _read_flat_seed(self) -> int | None:
        path = self.directory / "sweep.json"
        if path.exists():
            flat: int | None = json.loads(path.read_text(encoding="utf-8"))["flat_seed"]
            return flat
        seeds = self.plan.space.seeds
        return seeds[0] if len(seeds) == 1 else None

    def save(self) -> None:
        """Write ``sweep.json``, from which the sweep is resumed."""
        content = {
            "overrides": self.plan.overrides,
            "config_dir": self.plan.config_dir,
            "cwd": str(Path.cwd()),
            "threads": self.threads,
            "flat_seed": self._flat_seed,
            "metric": self.plan.metric,
            "mode": self.plan.mode,
            "revision": revision(),
        }
        atomic_write_json(self.directory / "sweep.json", content)

    @property
    def threads(self) -> int:
        """CPU threads of each run; kept in ``sweep.json``, because their number changes rounding."""
        path = self.directory / "sweep.json"
        if self.plan.settings["threads"] is None and path.exists():
            return int(json.loads(path.read_text(encoding="utf-8"))["threads"])
        return int(self.plan.settings["threads"] or threads_each(self.plan.settings["n_jobs"]))

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

    def resume_trials(self) -> None:
        """Queue the missing runs of trials that have begun: interrupted ones, and those of seeds that were added."""
        for number, params in self._study.interrupted():
            self._begin(number, params)
        for trial in self.trials.values():
            if trial.number not in self._unrecorded and not trial.failures:
                self._queue_missing(trial)

    def _begin(self, number: int, params: Params) -> None:
        """Begin a trial, or go on with it."""
        path = self.directory / str(number)
        trial = self.trials.setdefault(number, TrialDirectory(number, path, params, [], self._flat_seed))
        self._unrecorded.add(number)
        if trial.failures or not self._queue_missing(trial):
            self._record_end(trial)

    def _queue_missing(self, trial: TrialDirectory) -> bool:
        """Queue the runs that a trial lacks; whether there are any."""
        trial.seeds = [*trial.seeds, *(seed for seed in self.plan.space.seeds if seed not in trial.seeds)]
        trial.save()
        missing = [replicate for replicate in trial.replicates() if replicate.outcome().status not in DONE]
        self._queue.extend(missing)
        return bool(missing)

    def run(self, view: View, stop: Stop) -> int:
        """Run what is missing.

        Args:
            view: shows progress.
            stop: whether to stop.

        Returns:
            The exit code: that of the signal if one stopped the sweep; else 1 if trials failed, and 0 otherwise.
        """
        slots = slots_for(self.plan.settings["n_jobs"], self.plan.settings["per_gpu"], self.plan.hardware)
        self.enqueue_trials()
        self.resume_trials()
        with ExitStack() as stack:
            self._server = ForkServer()
            stack.callback(self._server.close)
            stack.enter_context(view.live())
            run_jobs(slots, self.next_replicate, self.start, partial(self.handle_end, stop), stop, view.show)
        self.write_leaderboard()
        return stop.exit_code or int(any(trial.failures for trial in self.trials.values()))

    def next_replicate(self) -> Replicate | None:
        """Choose what to run next; None: nothing at the moment."""
        max_failures = self.plan.settings["max_failures"]
        num_failures = sum(bool(trial.failures) for trial in self.trials.values())
        if max_failures is not None and num_failures >= max_failures:
            return None
        while not self._queue and (asked := self._study.next()) is not None:
            self._begin(*asked)
        return self._queue.popleft() if self._queue else None

    def start(self, replicate: Replicate, slot: Slot) -> Process | None:
        """Start a run, or go on with one that was interrupted."""
        run = replicate.run
        replicate.output.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not run.config.exists():
                self._prepare(replicate)
        except LxError as error:
            self._fail(self.trials[replicate.trial], replicate.seed, f"bad config: {error}")
            return None
        run.result.unlink(missing_ok=True)
        config = run.read_config()
        if has_ranks(config["hardware"]):
            environment = {**child_environment(), **slot.environment}
            return start_command(worker_command(run, config), str(replicate.output), environment, slot.cpus)
        assert self._server is not None
        return self._server.start(run.path, replicate.output, slot.environment, list(slot.cpus))

    def _prepare(self, replicate: Replicate) -> None:
        params = self.trials[replicate.trial].params
        overrides = [*self.plan.space.fixed, *overrides_of(params), f"seed={replicate.seed}"]
        if not any(text.startswith("hardware.threads=") for text in overrides):
            overrides.append(f"hardware.threads={self.threads}")
        cfg = compose_with(self._hydra, [*overrides, "launch=process"])
        cfg.run_dir = str(replicate.run.path)
        cfg.name = f"{cfg.name}-{replicate.trial}"
        prepare_run(cfg, overrides)

    def handle_end(self, stop: Stop, job: Job, code: int) -> None:
        """Record that a run has ended, or try again if a signal ended it."""
        replicate, trial = job.replicate, self.trials[job.replicate.trial]
        outcome = replicate.outcome()
        if code == 0 and outcome.status in DONE:
            if all(other.outcome().status in DONE for other in trial.replicates()):
                self._record_end(trial)
            return
        ended_by_signal = code < 0 or code >= _FIRST_SIGNAL_CODE
        if ended_by_signal and stop.exit_code is not None:
            return  # the sweep was stopped, and can be resumed
        attempts = trial.attempts.get(replicate.seed, 0)
        if ended_by_signal and attempts < self.plan.settings["retries"]:
            trial.attempts[replicate.seed] = attempts + 1
            trial.save()
            self._queue.appendleft(replicate)
            return
        self._fail(trial, replicate.seed, why_failed(code, outcome, replicate.last_lines()))

    def _fail(self, trial: TrialDirectory, seed: int, reason: str) -> None:
        trial.failures[seed] = reason
        trial.save()
        self._queue = deque(r for r in self._queue if r.trial != trial.number)  # its other seeds would fail, too
        self._record_end(trial)

    def _record_end(self, trial: TrialDirectory) -> None:
        """Record in the study how a trial ended, once: seeds that are added later change the leaderboard alone."""
        if trial.number not in self._unrecorded:
            self.write_leaderboard()
            return
        self._unrecorded.discard(trial.number)
        outcomes = [replicate.outcome() for replicate in trial.replicates()]
        objective = Mean.of([outcome.objective for outcome in outcomes if outcome.objective is not None])
        if trial.failures or objective is None:
            self._study.finish(trial.number, None, "failed", "; ".join(trial.failures.values()))
        else:
            pruned = any(outcome.status == "pruned" for outcome in outcomes)
            self._study.finish(trial.number, objective.mean, "pruned" if pruned else "finished")
        self.write_leaderboard()

    def write_leaderboard(self) -> None:
        """Write ``leaderboard.csv``."""
        rows = rank_trials(self.trials.values(), self.plan.metric, self.plan.mode)
        write_leaderboard(self.directory / "leaderboard.csv", rows, self.plan.metric)


def _build_sampler(node: Mapping[str, Any], seed: int) -> Any:
    from hydra.utils import instantiate

    return instantiate(dict(node))(seed=seed)
