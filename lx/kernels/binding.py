"""Calls into the compiled kernels, and the inputs that they support.

Activations are bf16, weights and their gradients float32; sums are added up in float32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_float, c_long, c_uint32, c_void_p
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lx.kernels.build import library

WIDTH_MULTIPLE = 32
PROBABILITY_LEVELS = 1 << 16

Argument = Tensor | np.ndarray[Any, Any] | ctypes.Structure | int | float | None


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are kernels for such activations: bf16 on a CPU with AVX512-BF16. The first call compiles them."""
    return dtype == torch.bfloat16 and device.type == "cpu" and library() is not None


def supports(x: Tensor, *weights: Tensor | None) -> bool:
    """Whether the kernels compute with these tensors: bf16 activations and float32 weights, outside of torch.compile.

    Args:
        x: Activations [..., features]; the features are a multiple of `WIDTH_MULTIPLE`.
        weights: Their sizes are multiples of `WIDTH_MULTIPLE` as well.
    """
    return (
        not torch.compiler.is_compiling()
        and available(x.device, x.dtype)
        and x.shape[-1] % WIDTH_MULTIPLE == 0
        and x.numel() > 0
        and all(w is None or (_is_plain(w) and all(size % WIDTH_MULTIPLE == 0 for size in w.shape)) for w in weights)
    )


def supports_lookup(table: Tensor, dtype: torch.dtype) -> bool:
    """Whether the kernels look up rows of a float32 table [V, D] as activations of this dtype."""
    return (
        not torch.compiler.is_compiling()
        and available(table.device, dtype)
        and _is_plain(table)
        and table.shape[1] % WIDTH_MULTIPLE == 0
    )


def _is_plain(weight: Tensor) -> bool:
    """Whether a weight is float32 and no tensor subclass with its numbers elsewhere, such as FSDP's DTensor."""
    return weight.dtype == torch.float32 and type(weight) in (Tensor, torch.nn.Parameter)


class Dropout(ctypes.Structure):
    """The C struct `dropout`: keys of the random bits, the threshold below which they drop, the scale of the rest."""

    _fields_ = (("keys", c_uint32 * 2), ("threshold", c_uint32), ("scale", c_float))


def draw_dropout(probability: float) -> Dropout:
    """Draw the keys of one dropout from torch's global generator; the probability is rounded to 16 bits."""
    threshold = round(probability * PROBABILITY_LEVELS)
    keys = torch.randint(1 << 32, (2,)).tolist() if threshold else (0, 0)
    return Dropout((c_uint32 * 2)(*keys), threshold, PROBABILITY_LEVELS / (PROBABILITY_LEVELS - threshold))


@cache
def _kernel(name: str, library: Callable[[], ctypes.CDLL | None]) -> Any:
    function = getattr(library(), name)
    function.restype = None
    return function


def call(name: str, *arguments: Argument, library: Callable[[], ctypes.CDLL | None] = library) -> None:
    """Call a kernel: arrays and structures are passed by address, integers as long, None as a null pointer."""
    _kernel(name, library)(*[_argument(argument) for argument in arguments])


def _argument(argument: Argument) -> Any:
    if argument is None:
        return c_void_p(None)
    if isinstance(argument, Tensor):
        return c_void_p(argument.data_ptr())
    if isinstance(argument, np.ndarray):
        return c_void_p(argument.ctypes.data)
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    return c_float(argument) if isinstance(argument, float) else c_long(argument)


def rows_and_width(x: Tensor) -> tuple[int, int]:
    """M and the width of a tensor [..., width] with M rows."""
    return x.numel() // x.shape[-1], x.shape[-1]
