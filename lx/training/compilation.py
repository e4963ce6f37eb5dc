"""Compile a network with ``torch.compile``."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import torch
from torch import nn

from lx.system.hardware import Hardware

# Compiling takes about half a minute, and is expected to save some milliseconds of each step; not measured yet.
_WORTHWHILE_STEPS = 10_000


def pays_to_compile(hardware: Hardware, total_steps: int) -> bool:
    """Return whether a run is long enough to gain by being compiled, on a machine that can: what ``auto`` means.

    Args:
        hardware: that computes; on a CPU lx's own kernels are faster.
        total_steps: optimizer steps of the run.
    """
    if hardware.device.type != "cuda" or total_steps < _WORTHWHILE_STEPS:
        return False
    return find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))


def compile_for_all_lengths(net: nn.Module) -> None:
    """Compile a network in place, when it is first called, into one program for batches of all lengths.

    There is one each for training, the micro-batch trial, evaluation, a batch of one and an empty batch.
    """
    torch._dynamo.config.recompile_limit = 32  # of 8; beyond it torch would compute without a program
    torch._dynamo.config.optimize_ddp = False  # of torch 2.11 compiles anew for every length
    net.compile(dynamic=True)
