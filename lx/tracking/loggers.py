"""Build the loggers of ``cfg.logger``, and close them when a run ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger

from lx.system.signals import Stopped
from lx.tasks.base import ResultTable
from lx.tracking.context import RunContext, Tracker
from lx.tracking.wandb_agent import end_of_stopped


def build_loggers(nodes: Mapping[str, Any] | None, run: RunContext) -> list[Logger]:
    """Build the loggers of a run from their config nodes by name, in this order; a null node switches one off.

    A node with ``_partial_: true`` is called with the run; any other node is a complete Lightning logger.

    Raises:
        LxError: A logger's package is missing, or its settings cannot work.
    """
    loggers = []
    for node in (nodes or {}).values():
        if node is not None:
            built = instantiate(node, _convert_="all")
            loggers.append(built if isinstance(built, Logger) else built(run))
    return loggers


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
