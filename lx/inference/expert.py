"""Reads the linear expert of a run directory, which may be a stranger's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lx.errors import LxError, first_line
from lx.linear.expert import LinearExpert
from lx.run.checkpoint import load_plain


def read_expert(path: Path) -> LinearExpert:
    """Read an expert's tensors; nothing in the file is executed.

    Raises:
        LxError: Not the tensors of an expert.
    """
    tensors = load_plain(path)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise LxError(f"{path} is damaged: it does not hold tensors by name")
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > path.stat().st_size:
        raise LxError(f"{path} is damaged: its tensors are larger than the file")
    try:
        return LinearExpert.from_state_dict(tensors)
    except LxError as error:
        raise LxError(f"{path} cannot be used: {error}") from error


def read_scores(path: Path, num_rows: int, num_outputs: int) -> NDArray[np.float32]:
    """Map an expert's scores [N, C] into memory.

    Raises:
        LxError: Not an array of finite numbers of this shape.
    """
    try:
        values: NDArray[np.float32] = np.lib.format.open_memmap(path, "r")
    except (OSError, ValueError, EOFError) as error:
        raise LxError(f"{path} is no array of numbers: {first_line(error)}") from error
    if values.dtype != np.float32 or values.shape != (num_rows, num_outputs) or not np.isfinite(values).all():
        raise LxError(f"{path} does not hold {num_outputs} scores for each of {num_rows} texts")
    return values
