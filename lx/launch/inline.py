"""Train from Python, in this process, and leave the process as it was."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lx.errors import LxError
from lx.launch.local import prepare_run
from lx.run.result import Result
from lx.system.processes import report_exit
from lx.system.signals import EXIT_CODES, Stopped

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(cfg: DictConfig, overrides: Sequence[str] = ()) -> Result:
    """Train in this process, as ``lx train launch=inline`` does, and return how the run ended and where it lies.

    Args:
        cfg: from :func:`lx.compose`; what was changed in it since is checked again.
        overrides: those that made it, for ``environment.json``.

    Raises:
        LxError: bad input or configuration; no run directory is left behind.
        KeyboardInterrupt: the first Ctrl-C, after the step was finished and saved.
        SystemExit: likewise for SIGTERM.
    """
    from lx.training.train import train_in

    _check(cfg)
    run = prepare_run(cfg, overrides)
    try:
        return train_in(run)
    except Stopped as stopped:
        message = f"{stopped}; to go on: lx resume {run.quoted}"
        if stopped.exit_code == EXIT_CODES[signal.SIGINT]:
            raise KeyboardInterrupt(message) from None
        raise SystemExit(report_exit(message, stopped.exit_code)) from None
    finally:
        run.resumption.unlink(missing_ok=True)


def _check(cfg: DictConfig) -> None:
    from omegaconf import DictConfig

    from lx.config.validate import check_config

    if not isinstance(cfg, DictConfig):
        raise LxError(f"lx.train takes what lx.compose returns, not a {type(cfg).__name__}: lx.train(lx.compose(...))")
    inline = cfg.copy()
    inline.launch = "inline"
    check_config(inline, inline)
