"""TensorBoard event files below the run directory."""

from __future__ import annotations

from importlib.util import find_spec

from lightning.pytorch.loggers import TensorBoardLogger

from lx.errors import LxError
from lx.tracking.context import RunContext


def tensorboard_logger(run: RunContext) -> TensorBoardLogger:
    """Lightning's TensorBoard logger, writing to ``RUN/tensorboard``.

    Raises:
        LxError: The ``tensorboard`` package is not installed.
    """
    require_tensorboard()
    return TensorBoardLogger(save_dir=run.dir, name="tensorboard", version="", purge_step=run.step)


def require_tensorboard() -> None:
    """Raise LxError unless the ``tensorboard`` package is installed."""
    if find_spec("tensorboard") is None:
        raise LxError(
            "logger=tensorboard needs the package tensorboard, which is not installed. "
            "Install it with: pip install 'lx[tensorboard]'"
        )
