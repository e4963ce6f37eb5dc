"""Build the loggers of ``cfg.logger``, and close them when a run ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from threading import Thread
from typing import Any

from lightning.pytorch.loggers import Logger

from lx.config.instantiate import build
from lx.errors import LxError
from lx.system.signals import Stopped
from lx.tracking.context import ReportTracker, RunContext, RunResults, Tracker
from lx.tracking.media import report_of
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
    """Refuse settings that cannot work, without starting a logger; its class may check them by ``check_settings``.

    Raises:
        LxError: as :func:`build_loggers`.
    """
    for name, node in (nodes or {}).items():
        if node is not None and node.get("_partial_"):
            factory = build(node, f"logger.{name}", _convert_="all")
            _require_accepted(factory, f"logger.{name}")
            if hasattr(factory.func, "check_settings"):
                factory.func.check_settings(factory.keywords)


def _require_accepted(factory: partial[Logger], where: str) -> None:
    """Refuse settings that the factory of a logger has no parameters for."""
    try:
        signature(factory.func).bind(None, *factory.args, **factory.keywords)
    except TypeError as error:
        raise LxError(f"{where} cannot be built: {error}") from error


def _call(factory: Callable[[RunContext], Logger], where: str, run: RunContext) -> Logger:
    try:
        return factory(run)
    except TypeError as error:
        raise LxError(f"{where} cannot be built: {error}") from error


def record_best(loggers: Sequence[Logger], metrics: Mapping[str, float]) -> None:
    """Pass the metrics of the best validation so far to every logger that keeps them."""
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.record_best(metrics)


def record_results(loggers: Sequence[Logger], results: RunResults) -> None:
    """Pass what came out of a run to every logger that keeps it."""
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.record_results(results)


def record_report(loggers: Sequence[Logger], run_dir: Path) -> None:
    """Make the report of a run that has its result, for the loggers that show it."""
    showing = [logger for logger in loggers if isinstance(logger, ReportTracker) and logger.wants_report]
    if showing:
        with report_of(run_dir) as path:
            for logger in showing:
                if path is not None:
                    logger.record_report(path)


@contextmanager
def starting_services(nodes: Mapping[str, Any] | None) -> Iterator[None]:
    """Start in a thread, while the block runs, what loggers would wait for afterwards: W&B's service."""
    node = (nodes or {}).get("wandb") or {}
    thread = Thread(target=_start_wandb, args=(node.get("mode", "disabled"),))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _start_wandb(mode: str) -> None:
    """Start wandb's service process, which takes some tenths of a second of waiting; the run reports what is wrong."""
    with suppress(Exception):
        if choose_mode(mode)[0] != "disabled":
            import wandb

            wandb.setup()


@dataclass
class RunEnd:
    """How a run ends, unless an exception says otherwise: ``finished``, or as its sweep has decided."""

    status: str = "finished"


@contextmanager
def finished_at_end(loggers: Sequence[Logger]) -> Iterator[RunEnd]:
    """Close the loggers when the block ends, with how it ended: as the block says, or stopped, pruned or failed."""
    end, code = RunEnd(), 0
    try:
        yield end
    except (Stopped, KeyboardInterrupt) as stopped:
        end.status, code = end_of_stopped(getattr(stopped, "exit_code", 130))
        raise
    except BaseException:
        end.status, code = "failed", 1
        raise
    finally:
        finish(loggers, end.status, code)


def finish(loggers: Sequence[Logger], status: str, exit_code: int) -> None:
    """Close every logger that keeps an end state: ``finished``, ``failed``, ``stopped`` or ``pruned``."""
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.finish(status, exit_code)
