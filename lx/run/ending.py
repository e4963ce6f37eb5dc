"""Record how a run stands in ``result.json``, without losing what an earlier process has recorded.

A finished run stays finished, however its process ends. A run that goes on, or is made longer, keeps its earlier
measurements until there are newer ones. A run whose resumption does not start is left as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from lx.errors import LxError
from lx.run.directory import RunDirectory
from lx.run.result import Result

_FINAL = ("finished", "pruned", "paused")


@dataclass(frozen=True)
class Reached:
    """How far a run has come.

    Attributes:
        steps: optimizer steps.
        epochs: whole ones.
        objective: of the best validation; None: there was none.
        metrics: of that validation.
    """

    steps: int = 0
    epochs: int = 0
    objective: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def begin(run: RunDirectory) -> None:
    """Record that training has started: a resumption's configuration becomes the run's, and its result is outdated."""
    if run.resumption.exists():
        # No sweep judges the run any more. This comes first, since ranks that find no resumption look for a verdict.
        run.verdict.unlink(missing_ok=True)
        run.resumption.replace(run.config)
    if run.result.exists():
        run.write_result(replace(run.read_result(), status="stopped", error=None))


def record_end(
    run: RunDirectory, status: str, error: str, reached: Reached | None = None, seconds: float | None = None
) -> None:
    """Write the result of a run that has failed or was stopped, unless it had finished before, or never started.

    Args:
        run: its directory.
        status: ``failed`` or ``stopped``; ``pruned``, by W&B.
        error: what ended it.
        reached: how far it came; None: as far as its last training state.
        seconds: that it has trained; None: not known.
    """
    if run.resumption.exists():
        return
    result = run.read_result() if run.result.exists() else Result("failed", str(run.path))
    if result.status in _FINAL:
        return
    reached = reached or _last_state(run)
    ended = replace(
        result,
        status=status,
        error=error,
        steps=reached.steps,
        epochs=reached.epochs,
        metrics={**result.metrics, **reached.metrics},
        objective=result.objective if reached.objective is None else reached.objective,
        best_checkpoint=str(run.best) if run.best.exists() else None,
        seconds=result.seconds if seconds is None else seconds,
    )
    with suppress(LxError):  # a full disk has no room for this either, and the error is reported in any case
        run.write_result(ended)


def _last_state(run: RunDirectory) -> Reached:
    """Read how far a run has come from its newest readable training state; an empty one if there is none."""
    from lx.run.checkpoint import load_plain, read_step  # imports torch

    for path in (run.last, run.previous):
        with suppress(LxError):  # missing or damaged
            steps = read_step(run.trusted(path))
            state = load_plain(path, mmap=True).get("callbacks", {}).get("Checkpoint", {})
            return Reached(
                steps,
                steps // state.get("steps_per_epoch", steps + 1),  # 0 for states of lx 0.1, which lack it
                state.get("best_objective", state.get("best")),
                state.get("best_metrics", {}),
            )
    return Reached()
