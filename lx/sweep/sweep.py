"""A sweep from its command to its leaderboard: ``lx train -m``, ``lx sweep resume`` and ``lx.sweep([...])``."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lx.config.compose import compose_with, hydra_session, readable_errors, resolved
from lx.errors import LxError
from lx.launch.forkserver import ForkServer
from lx.launch.local import prepare_run
from lx.launch.command import has_ranks, worker_command
from lx.run.directory import RunDirectory
from lx.run.lock import locked
from lx.sweep.leaderboard import Row, ranked, row_of, write_leaderboard
from lx.sweep.places import Place, places_for, threads_each
from lx.sweep.scheduler import Job, Process, Stop, run_jobs, start_command
from lx.sweep.space import Axis, Choices, Params, Space, grid, overrides_of, parse_space, probes, read_trials
from lx.sweep.study import SeededSampler, SweepStudy
from lx.sweep.trials import Mean, Replicate, TrialDirectory, load_trials, why_failed
from lx.sweep.view import View
from lx.system.files import atomic_write_json
from lx.system.git import revision
from lx.system.processes import child_environment

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

_MOST_PROBES = 200
_SIGNALS = {130, 143}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# What a resumed sweep may change; n_trials and seeds may grow.
_ADJUSTABLE = {"n_jobs", "per_gpu", "retries", "max_failures", "budget", "n_trials", "seeds"}


@dataclass(frozen=True)
class Plan:
    """What a sweep is to do, known and checked before its first run.

    Attributes:
        overrides: of the command, in order.
        config_dir: the user's folder of config groups.
        settings: the node ``sweep``.
        space: what varies.
        listed: every trial of a grid or a list; None: a search.
        metric: the objective.
        mode: ``max`` or ``min``.
        hardware: of the first trial.
    """

    overrides: tuple[str, ...]
    config_dir: str | None
    settings: dict[str, Any]
    space: Space
    listed: list[Params] | None
    metric: str
    mode: str
    hardware: dict[str, Any]

    @property
    def num_trials(self) -> int:
        """How many configurations there are."""
        return int(self.settings["n_trials"]) if self.listed is None else len(self.listed)


def make_plan(hydra: Hydra, overrides: Sequence[str], config_dir: str | None) -> Plan:
    """Read a sweep's command and check every value of every axis, before anything is written.

    Raises:
        LxError: a value that training would refuse, an axis that does not fit the kind of sweep, or wrong settings.
    """
    about_sweep = [text for text in overrides if text.lstrip("+").startswith(("sweep=", "sweep."))]
    with readable_errors(hydra, about_sweep):
        settings = resolved(_compose_settings(hydra, about_sweep))
    _check_settings(settings)
    others = [text for text in overrides if text not in about_sweep]
    space = parse_space(hydra, others, settings["params"], settings["seeds"])
    listed = _listed(space, settings)
    if listed is None and not space.axes:
        raise LxError("a search needs something to vary: give values as in model=tiny,small or interval(1e-5,1e-2)")
    first = _check_values(hydra, space, listed)
    if "submit" in first.hardware:
        raise LxError("hardware=slurm: a sweep runs on this machine; submit a job that runs the sweep instead")
    return Plan(
        tuple(overrides),
        config_dir,
        settings,
        space,
        listed,
        str(first.objective.metric),
        str(first.objective.mode),
        resolved(first)["hardware"],
    )


def _compose_settings(hydra: Hydra, overrides: Sequence[str]) -> DictConfig:
    from hydra.types import RunMode

    cfg: DictConfig = hydra.compose_config("sweep", list(overrides), RunMode.RUN, with_log_configuration=False)
    node: DictConfig = cfg.sweep
    return node


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name in ("n_trials", "seeds", "n_jobs", "per_gpu", "threads", "max_failures"):
        value = settings[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise LxError(f"sweep.{name} must be a whole number of at least 1, not {value!r}")
    seconds_of(settings["budget"])


def seconds_of(budget: str | int | None) -> float | None:
    """A time such as ``90s``, ``30m`` or ``2h`` in seconds.

    Raises:
        LxError: no such time.
    """
    if budget is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(budget))
    if match is None or float(match[1]) <= 0:
        raise LxError(f"sweep.budget={budget}: a time is a number with s, m, h or d behind it, such as 30m")
    return float(match[1]) * _UNITS[match[2] or "s"]


def _listed(space: Space, settings: Mapping[str, Any]) -> list[Params] | None:
    """Every trial of a grid or a list; None for a search."""
    if settings["list"] is not None:
        if space.axes:
            raise LxError(f"sweep.list names the trials, so {space.axes[0].key} cannot vary beside it")
        return read_trials(Path(settings["list"]))
    if settings["sampler"] is not None:
        if settings["n_trials"] is None:
            raise LxError("a search needs to know how long: give sweep.n_trials=N")
        return None
    if settings["n_trials"] is not None:
        raise LxError("sweep.n_trials is for searches (sweep=random or sweep=tpe): a grid tries all combinations")
    listed = grid(space, settings["exclude"], settings["zip"])
    if not listed:
        raise LxError("sweep.exclude leaves no combination")
    return listed


def _check_values(hydra: Hydra, space: Space, listed: list[Params] | None) -> DictConfig:
    """Compose and check the values of a sweep; the first composed configuration."""
    checked = probes(space, _MOST_PROBES) if listed is None or len(listed) > _MOST_PROBES else listed
    first = None
    for params in checked:
        try:
            cfg = compose_with(hydra, [*space.fixed, *overrides_of(params), f"seed={space.seeds[0]}"])
        except LxError as error:
            raise LxError(f"{' '.join(overrides_of(params)) or 'the trial'}: {error}") from error
        first = first or cfg
    assert first is not None
    return first


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
            _axes_of(plan),
            ["maximize" if plan.mode == "max" else "minimize"],
            None if sampler is None else SeededSampler(partial(_build_sampler, sampler), plan.settings["seed"]),
        )
        self._open: set[int] = set()
        self._preparing: dict[str, Replicate] = {}
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
            for _ in range(self.plan.num_trials - len(self._study)):
                self._study.add_slot({})

    def take_up(self) -> None:
        """Queue the runs that are missing of trials that have begun."""
        for number, params in self._study.interrupted():
            self._begin(number, params)
        for trial in self.trials.values():
            if trial.number not in self._open and set(trial.seeds) != set(self.plan.space.seeds):
                trial.seeds = [*trial.seeds, *(seed for seed in self.plan.space.seeds if seed not in trial.seeds)]
                trial.save()
                self._queue.extend(r for r in trial.replicates() if r.outcome().status not in ("finished", "pruned"))

    def _begin(self, number: int, params: Params) -> None:
        trial = self.trials.get(number)
        if trial is None:
            seeds = list(self.plan.space.seeds)
            trial = TrialDirectory(number, self.directory / str(number), params, seeds, self._flat_seed)
            self.trials[number] = trial
        trial.seeds = [*trial.seeds, *(seed for seed in self.plan.space.seeds if seed not in trial.seeds)]
        trial.save()
        self._open.add(number)
        missing = [r for r in trial.replicates() if r.outcome().status not in ("finished", "pruned")]
        missing = [replicate for replicate in missing if replicate.seed not in trial.reasons]
        self._queue.extend(missing)
        if not missing:
            self._finish(trial)

    def run(self, view: View, stop: Stop) -> int:
        """Run what is missing; the exit code."""
        places = places_for(self.plan.settings["n_jobs"], self.plan.settings["per_gpu"], self.plan.hardware)
        self.add_slots()
        self.take_up()
        with ExitStack() as stack:
            self._server = ForkServer()
            stack.callback(self._server.close)
            stack.enter_context(view.live(self))
            run_jobs(places, self.next_replicate, self.start, partial(self.ended, stop), stop, view.show)
        self.write_leaderboard()
        if stop.exit_code is not None:
            return stop.exit_code
        return 1 if any(trial.reasons for trial in self.trials.values()) else 0

    def next_replicate(self) -> Replicate | None:
        """What to run next; None: nothing at the moment."""
        self._preparing = {key: r for key, r in self._preparing.items() if not r.run.model.exists() and self._runs(r)}
        most = self.plan.settings["max_failures"]
        if most is not None and sum(bool(trial.reasons) for trial in self.trials.values()) >= most:
            return None
        while not self._queue and (asked := self._study.next()) is not None:
            self._begin(*asked)
        return self._queue.popleft() if self._queue else None

    def _runs(self, replicate: Replicate) -> bool:
        return replicate.outcome().status == "unfinished"

    def start(self, replicate: Replicate, place: Place) -> Process | None:
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
            environment = {**child_environment(), **place.environment}
            return start_command(worker_command(run, config), str(replicate.output), environment, place.cpus)
        assert self._server is not None
        return self._server.start(run.path, replicate.output, place.environment, list(place.cpus))

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
        if code == 0 and outcome.status in ("finished", "pruned"):
            if all(r.outcome().status in ("finished", "pruned") or r.seed in trial.reasons for r in trial.replicates()):
                self._finish(trial)
            return
        if stop.exit_code is not None and (code in _SIGNALS or code < 0):
            return  # resumable
        attempts = trial.attempts.get(replicate.seed, 0)
        if (code < 0 or code in _SIGNALS or code >= 128) and attempts < self.plan.settings["retries"]:
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
            self._study.finish(trial.number, [mean.mean], "pruned" if pruned else "finished")
        self.write_leaderboard()

    def rows(self) -> list[Row]:
        """The ranking."""
        rows = [row_of(trial, self.plan.metric) for trial in self.trials.values()]
        return ranked(rows, self.plan.mode)

    def write_leaderboard(self) -> None:
        """Write ``leaderboard.csv``."""
        write_leaderboard(self.directory / "leaderboard.csv", self.rows(), self.plan.metric)


def _axes_of(plan: Plan) -> list[Axis]:
    """The axes as the study knows them: those of a list are what its trials name."""
    if plan.listed is None or plan.settings["list"] is None:
        return list(plan.space.axes)
    keys = dict.fromkeys(key for params in plan.listed for key in params)
    return [Choices(key, tuple(dict.fromkeys(p[key] for p in plan.listed if key in p))) for key in keys]


def _build_sampler(node: Mapping[str, Any], seed: int) -> Any:
    from hydra.utils import instantiate

    return instantiate(dict(node))(seed=seed)


def default_directory() -> Path:
    """``runs/sweeps/<date>_<time>``."""
    return Path("runs") / "sweeps" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def sweep(
    overrides: Sequence[str], config_dir: str | Path | None = None, *, dry_run: bool = False, live: bool = True
) -> int:
    """Run a sweep, or go on with the one in ``sweep.dir``.

    Args:
        overrides: of ``lx train``, with several values for what varies, and of ``sweep``.
        config_dir: a folder of the user's config groups.
        dry_run: print the plan and stop.
        live: show progress.

    Returns:
        The exit code: 1 if trials failed, 130 or 143 if the sweep was stopped.

    Raises:
        LxError: bad input; no run has begun then.
    """
    if any(name in os.environ for name in ("WANDB_SWEEP_ID",)):
        raise LxError("-m inside a W&B agent: the agent chooses the values itself; leave -m out of its command")
    with hydra_session(config_dir) as hydra:
        plan = make_plan(hydra, overrides, None if config_dir is None else str(Path(config_dir).resolve()))
        directory = Path(plan.settings["dir"] or default_directory())
        view = View(live)
        if dry_run:
            view.plan(plan, directory)
            return 0
        if (directory / "sweep.json").exists():
            _check_extension(directory, hydra, plan)
        elif directory.exists() and any(directory.iterdir()):
            raise LxError(f"sweep.dir={directory} is no sweep, and not empty: choose another directory")
        directory.mkdir(parents=True, exist_ok=True)
        with locked(RunDirectory(directory)):
            stop = Stop(seconds_of(plan.settings["budget"]))
            with stop.listening():
                running = Sweep(directory, plan, hydra)
                running.save()
                view.plan(plan, directory)
                code = running.run(view, stop)
            view.end(running, stop.exit_code)
    return code


def resume_sweep(directory: Path, changes: Sequence[str] = ()) -> int:
    """Go on with an interrupted sweep, or extend one.

    Args:
        directory: of the sweep.
        changes: of ``sweep`` settings, ``sweep.n_trials=+20`` for twenty more.

    Raises:
        LxError: no sweep there, or a change that would make it another sweep.
    """
    content = read_sweep(directory)
    directory = directory.resolve()
    os.chdir(content["cwd"])
    overrides = [*content["overrides"]]
    for change in changes:
        key, _, value = change.partition("=")
        if key.removeprefix("sweep.") not in _ADJUSTABLE or not key.startswith("sweep."):
            allowed = ", ".join(f"sweep.{name}" for name in sorted(_ADJUSTABLE))
            raise LxError(f"{change}: a sweep goes on as it was; what can change: {allowed}")
        before = next((text for text in reversed(overrides) if text.startswith(f"{key}=")), f"{key}=0")
        if value.startswith("+"):
            value = str(int(before.partition("=")[2]) + int(value))
        overrides = [text for text in overrides if not text.startswith(f"{key}=")] + [f"{key}={value}"]
    overrides = [text for text in overrides if not text.startswith("sweep.dir=")] + [f"sweep.dir={directory}"]
    return sweep(overrides, content["config_dir"])


def read_sweep(directory: Path) -> dict[str, Any]:
    """The content of ``sweep.json``.

    Raises:
        LxError: there is none.
    """
    try:
        content: dict[str, Any] = json.loads((directory / "sweep.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise LxError(f"{directory} is no sweep: there is no sweep.json in it") from error
    except ValueError as error:
        raise LxError(f"{directory / 'sweep.json'} is not valid JSON: {error}") from error
    return content


def _check_extension(directory: Path, hydra: Hydra, plan: Plan) -> None:
    """Refuse a command that is neither the sweep's own nor a larger one.

    Raises:
        LxError: lists what differs.
    """
    content = read_sweep(directory)
    before = make_plan(hydra, content["overrides"], content["config_dir"])
    differences = [f"{text} was not there" for text in plan.space.fixed if text not in before.space.fixed]
    differences += [f"{text} is gone" for text in before.space.fixed if text not in plan.space.fixed]
    now = {axis.key: axis for axis in plan.space.axes}
    for axis in before.space.axes:
        new = now.pop(axis.key, None)
        grown = isinstance(axis, Choices) and isinstance(new, Choices) and set(axis.values) <= set(new.values)
        if new != axis and not grown:
            differences.append(f"{axis.key} varied otherwise" if new is not None else f"{axis.key} varies no more")
    differences += [f"{key} did not vary" for key in now]
    differences += [f"seed {seed} is gone" for seed in before.space.seeds if seed not in plan.space.seeds]
    if (plan.settings["n_trials"] or 0) < (before.settings["n_trials"] or 0):
        differences.append(f"sweep.n_trials was {before.settings['n_trials']}")
    same = {key for key in plan.settings if key not in {*_ADJUSTABLE, "dir", "params", "threads", "exclude", "list", "zip"}}
    differences += [f"sweep.{key} was {before.settings[key]}" for key in same if plan.settings[key] != before.settings[key]]
    if differences:
        raise LxError(
            f"{directory} holds another sweep: {'; '.join(differences)}. Give the same command or a larger one (more "
            "values, seeds or trials), or choose another sweep.dir"
        )
