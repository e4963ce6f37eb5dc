"""A trial of a sweep: one configuration, its replicates over seeds, and their results, read from their directories."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lx.run.directory import RunDirectory
from lx.sweep.space import Params
from lx.system.files import atomic_write_json

_LAST_LINES = 3
_SAVED = ("params", "seeds", "flat_seed", "failures", "attempts", "dropped", "infeasible", "fresh_seeds")
DONE = frozenset({"finished", "pruned"})
"""Statuses of runs that have nothing left to do."""
ENDED_WELL = DONE | {"paused"}
"""Statuses of runs whose process has ended with exit code 0."""


@dataclass(eq=False)
class Replicate:
    """One run of a trial.

    Attributes:
        trial: the trial's number.
        seed: of the run.
        run: its directory.
        output: the file of what it prints.
    """

    trial: int
    seed: int
    run: RunDirectory
    output: Path
    _final: Outcome | None = field(default=None, init=False, repr=False, compare=False)

    def outcome(self) -> Outcome:
        """Return how the run stands, read from its directory; the result of a run that is done is read only once."""
        outcome = self._final or self._read_outcome()
        if outcome.status in DONE:
            self._final = outcome
        return outcome

    def _read_outcome(self) -> Outcome:
        try:
            result = json.loads(self.run.result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return Outcome("unfinished" if self.run.config.exists() else "missing")
        return Outcome(
            status=str(result.get("status")),
            objective=result.get("objective"),
            metrics=result.get("metrics") or {},
            seconds=float(result.get("seconds") or 0.0),
            message=result.get("error"),
            parameters=result.get("parameters"),
            latency=result.get("latency"),
        )

    def last_lines(self) -> str:
        """The end of what the run printed."""
        try:
            lines = self.output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_LAST_LINES:])


@dataclass(frozen=True)
class Outcome:
    """How a run stands.

    Attributes:
        status: ``finished``, ``failed``, ``stopped`` or ``pruned`` as in result.json; ``unfinished`` without one;
            ``missing`` without a run.
        objective: of the best validation; None if there was none.
        metrics: of the best validation and of the test.
        seconds: that it has trained.
        message: why it did not finish.
        parameters: of the network.
        latency: milliseconds of a prediction of one text, if a sweep asks for it.
    """

    status: str
    objective: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    message: str | None = None
    parameters: int | None = None
    latency: float | None = None

    def value(self, name: str) -> float | None:
        """A metric of the best validation, ``seconds``, ``parameters`` or ``latency``; None: it was not measured."""
        own = {"seconds": self.seconds, "parameters": self.parameters, "latency": self.latency}
        return own[name] if name in own else self.metrics.get(name)


@dataclass(frozen=True)
class Mean:
    """Mean and sample standard deviation over replicates; no deviation for one."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean | None:
        """Return the mean and deviation of values; None if there are none."""
        if not values:
            return None
        mean, count = math.fsum(values) / len(values), len(values)
        if count == 1:
            return cls(mean, None, count)
        return cls(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1)), count)

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.deviation is None else f"{self.mean:.4f} ± {self.deviation:.4f}"


@dataclass
class TrialDirectory:
    """A trial's directory below the sweep's: ``trial.json``, and a run or one run a seed.

    Attributes:
        number: of the trial, from 0.
        path: ``SWEEP_DIR/<number>``.
        params: its values of the axes.
        seeds: of its replicates.
        flat_seed: the seed whose run lies in ``path`` itself; None: each run lies in ``seed-SEED`` below.
        failures: why replicates failed, by seed.
        attempts: how often each replicate was started after it was killed, by seed.
        dropped: why it gets no further runs, though it has not failed; empty if it is still in the race.
        infeasible: whether it was dropped because a run exceeds ``sweep.max_bytes`` or ``sweep.max_latency``.
        fresh_seeds: of the runs that confirm it, which the ranking does not look at.
    """

    number: int
    path: Path
    params: Params
    seeds: list[int]
    flat_seed: int | None
    failures: dict[int, str] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    dropped: str = ""
    infeasible: bool = False
    fresh_seeds: list[int] = field(default_factory=list)
    _replicates: dict[int, Replicate] = field(default_factory=dict, init=False, repr=False, compare=False)

    def replicate(self, seed: int) -> Replicate:
        """Return the run of a seed: the same object each time, since it caches the result."""
        if seed not in self._replicates:
            if seed == self.flat_seed:
                folder, output = self.path, self.path / "output.txt"
            else:
                folder, output = self.path / f"seed-{seed}", self.path / f"seed-{seed}.output.txt"
            self._replicates[seed] = Replicate(self.number, seed, RunDirectory(folder), output)
        return self._replicates[seed]

    def replicates(self) -> list[Replicate]:
        """The runs that it is ranked by."""
        return [self.replicate(seed) for seed in self.seeds]

    def confirmations(self) -> list[Replicate]:
        """Its runs on fresh seeds."""
        return [self.replicate(seed) for seed in self.fresh_seeds]

    def drop(self, reason: str, *, infeasible: bool = False) -> None:
        """Record why the trial gets no further runs, though it has not failed."""
        self.dropped = reason
        self.infeasible |= infeasible
        self.save()

    def save(self) -> None:
        """Write ``trial.json``."""
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write_json(self.path / "trial.json", {name: getattr(self, name) for name in _SAVED})

    @classmethod
    def load(cls, path: Path) -> TrialDirectory | None:
        """Read ``trial.json``; None if the trial had not been written down yet."""
        try:
            content: dict[str, Any] = json.loads((path / "trial.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        fields = {name: content[name] for name in _SAVED if name in content}
        for name in ("failures", "attempts"):  # JSON's keys are texts
            fields[name] = {int(seed): value for seed, value in fields.get(name, {}).items()}
        return cls(int(path.name), path, **fields)


def load_trials(directory: Path, leave_out: Container[int] = ()) -> list[TrialDirectory]:
    """Return the trials of a sweep that have begun, ordered by number, without those in ``leave_out``."""
    numbers = sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())
    folders = (directory / str(number) for number in numbers if number not in leave_out)
    return [trial for path in folders if (trial := TrialDirectory.load(path)) is not None]


def why_failed(code: int, outcome: Outcome, last_lines: str) -> str:
    """Return the kind of a failure and its message, in one line.

    Args:
        code: the exit code of the process.
        outcome: of the run.
        last_lines: that the run printed.
    """
    message = outcome.message or next(iter(reversed(last_lines.splitlines())), "")
    message = message.removeprefix("lx: ").removeprefix("error: ")
    if code < 0 or "was killed by" in message:
        return f"killed: {message}" if "killed" in message else f"killed by signal {-code}, out of memory?"
    if code == 2:
        return f"bad config: {message}"
    if (outcome.objective is not None and math.isnan(outcome.objective)) or re.search(r"loss (nan|inf|-inf)", message):
        return f"not a number: {message}"
    return f"exception: {message}"
