"""Build the loggers of ``cfg.logger``, and close them when a run ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

from lightning.pytorch.loggers import Logger

from lx.config.instantiate import build
from lx.errors import LxError
from lx.system.signals import Stopped
from lx.tasks.base import ResultTable
from lx.tracking.context import RunContext, Tracker
from lx.tracking.tensorboard import require_tensorboard
from lx.tracking.wandb_agent import end_of_stopped
from lx.tracking.wandb_mode import choose_mode


def build_loggers(nodes: Mapping[str, Any] | None, run: RunContext) -> list[Logger]:
    """Build the loggers of a run from their config nodes by name, in this order; a null node switches one off.

    A node with ``_partial_: true`` is called with the run; any other node is a complete Lightning logger.

    Raises:
        LxError: A logger's package is missing, or its settings cannot work.
    """
    loggers = []
    for name, node in (nodes or {}).items():
        if node is not None:
            built = build(node, f"logger.{name}", _convert_="all")
            loggers.append(built if isinstance(built, Logger) else _call(built, f"logger.{name}", run))
    return loggers


def check_loggers(nodes: Mapping[str, Any] | None) -> None:
    """Refuse the settings of a logger of lx's own that cannot work, without starting it.

    Raises:
        LxError: as :func:`build_loggers`.
    """
    for node in (nodes or {}).values():
        target = "" if node is None else str(node.get("_target_"))
        if target == "lx.tracking.wandb.WandbTracker":
            choose_mode(node["mode"])
        elif target == "lx.tracking.tensorboard.tensorboard_logger":
            require_tensorboard()


def _call(factory: Callable[[RunContext], Logger], where: str, run: RunContext) -> Logger:
    try:
        return factory(run)
    except TypeError as error:
        raise LxError(f"{where} cannot be built: {error}") from error


def record_evaluation(
    loggers: Sequence[Logger], metrics: Mapping[str, float], tables: Mapping[str, ResultTable]
) -> None:
    """Pass the metrics of the best weights, and the task's tables, to every logger that keeps them."""
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.record_evaluation(metrics, tables)


@contextmanager
def starting_services(nodes: Mapping[str, Any] | None) -> Iterator[None]:
    """Start in a thread, while the block runs, what loggers would wait for afterwards: W&B's service."""
    node = (nodes or {}).get("wandb")
    if node is None or "mode" not in node:
        yield
        return
    from lx.tracking.wandb import start_service

    thread = Thread(target=start_service, args=(node["mode"],))
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def finished_at_end(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close the loggers when the block ends, with how it ended: finished, stopped, pruned or failed."""
    status, code = "failed", 1
    try:
        yield
        status, code = "finished", 0
    except (Stopped, KeyboardInterrupt) as stopped:
        status, code = end_of_stopped(getattr(stopped, "exit_code", 130))
        raise
    finally:
        finish(loggers, status, code)


def finish(loggers: Sequence[Logger], status: str, exit_code: int) -> None:
    """Close every logger that keeps an end state: ``finished``, ``failed``, ``stopped`` or ``pruned``."""
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.finish(status, exit_code)
