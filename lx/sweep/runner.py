"""Runs what a sweep's plan lacks: begins trials, starts their runs, takes in how they end, and ranks them."""

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

_STOPPED = {130, 143}  # exit codes of a run that was asked to stop and has saved


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
        self._open: set[int] = set()  # trials whose end the study has not recorded
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
        """CPU threads of each run: part of the record, since they decide about rounding."""
        path = self.directory / "sweep.json"
        if self.plan.settings["threads"] is None and path.exists():
            return int(json.loads(path.read_text(encoding="utf-8"))["threads"])
        return int(self.plan.settings["threads"] or threads_each(self.plan.settings["n_jobs"]))

    def add_slots(self) -> None:
        """Make a slot for every trial that has none, so that there are never more trials than planned."""
        if self.plan.listed is not None:
            known = {json.dumps(values, sort_keys=True) for values in self._study.planned()}
            for params in self.plan.listed:
                if json.dumps(params, sort_keys=True) not in known:
                    self._study.add_slot(params)
        else:
            for number in range(len(self._study), self.plan.num_trials):
                self._study.add_slot(self.plan.defaults if number == 0 else {})

    def take_up(self) -> None:
        """Queue the runs that are missing of trials that have begun."""
        for number, params in self._study.interrupted():
            self._begin(number, params)
        for trial in self.trials.values():
            if trial.number not in self._open and set(trial.seeds) != set(self.plan.space.seeds):
                trial.seeds = [*trial.seeds, *(seed for seed in self.plan.space.seeds if seed not in trial.seeds)]
                trial.save()
                self._queue.extend(r for r in trial.replicates() if r.outcome().status not in DONE)

    def _begin(self, number: int, params: Params) -> None:
        trial = self.trials.get(number)
        if trial is None:
            seeds = list(self.plan.space.seeds)
            trial = TrialDirectory(number, self.directory / str(number), params, seeds, self._flat_seed)
            self.trials[number] = trial
        trial.seeds = [*trial.seeds, *(seed for seed in self.plan.space.seeds if seed not in trial.seeds)]
        trial.save()
        self._open.add(number)
        missing = [r for r in trial.replicates() if r.outcome().status not in DONE]
        missing = [replicate for replicate in missing if replicate.seed not in trial.reasons]
        self._queue.extend(missing)
        if not missing:
            self._finish(trial)

    def run(self, view: View, stop: Stop) -> int:
        """Run what is missing.

        Args:
            view: shows progress.
            stop: whether to stop.

        Returns:
            The exit code: 1 if trials failed, that of the signal if one stopped the sweep.
        """
        slots = slots_for(self.plan.settings["n_jobs"], self.plan.settings["per_gpu"], self.plan.hardware)
        self.add_slots()
        self.take_up()
        with ExitStack() as stack:
            self._server = ForkServer()
            stack.callback(self._server.close)
            stack.enter_context(view.live())
            run_jobs(slots, self.next_replicate, self.start, partial(self.ended, stop), stop, view.show)
        self.write_leaderboard()
        if stop.exit_code is not None:
            return stop.exit_code
        return 1 if any(trial.reasons for trial in self.trials.values()) else 0

    def next_replicate(self) -> Replicate | None:
        """What to run next; None: nothing at the moment."""
        most = self.plan.settings["max_failures"]
        if most is not None and sum(bool(trial.reasons) for trial in self.trials.values()) >= most:
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

    def ended(self, stop: Stop, job: Job, code: int) -> None:
        """Take in how a run ended."""
        replicate, trial = job.replicate, self.trials[job.replicate.trial]
        outcome = replicate.outcome()
        if code == 0 and outcome.status in DONE:
            if all(r.outcome().status in DONE or r.seed in trial.reasons for r in trial.replicates()):
                self._finish(trial)
            return
        if stop.exit_code is not None and (code in _STOPPED or code < 0):
            return  # resumable
        attempts = trial.attempts.get(replicate.seed, 0)
        if (code < 0 or code in _STOPPED or code >= 128) and attempts < self.plan.settings["retries"]:
            trial.attempts[replicate.seed] = attempts + 1
            trial.save()
            self._queue.appendleft(replicate)
            return
        self._fail(trial, replicate.seed, why_failed(code, outcome, replicate.last_lines()))

    def _fail(self, trial: TrialDirectory, seed: int, reason: str) -> None:
        trial.reasons[seed] = reason
        trial.save()
        self._queue = deque(r for r in self._queue if r.trial != trial.number)  # its other seeds would fail, too
        self._finish(trial)

    def _finish(self, trial: TrialDirectory) -> None:
        """Tell the study how a trial ended, once."""
        if trial.number not in self._open:
            self.write_leaderboard()
            return
        self._open.discard(trial.number)
        outcomes = [replicate.outcome() for replicate in trial.replicates()]
        mean = Mean.of([outcome.objective for outcome in outcomes if outcome.objective is not None])
        if trial.reasons or mean is None:
            self._study.finish(trial.number, None, "failed", "; ".join(trial.reasons.values()))
        else:
            pruned = any(outcome.status == "pruned" for outcome in outcomes)
            self._study.finish(trial.number, mean.mean, "pruned" if pruned else "finished")
        self.write_leaderboard()

    def write_leaderboard(self) -> None:
        """Write ``leaderboard.csv``."""
        rows = rank_trials(self.trials.values(), self.plan.metric, self.plan.mode)
        write_leaderboard(self.directory / "leaderboard.csv", rows, self.plan.metric)


def _build_sampler(node: Mapping[str, Any], seed: int) -> Any:
    from hydra.utils import instantiate

    return instantiate(dict(node))(seed=seed)
