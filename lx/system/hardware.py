"""What this machine offers: device, precision, and the names that a person knows them by."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass

import torch

from lx.distributed.process_group import Place
from lx.errors import LxError
from lx.kernels import ops as native

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "bf16-true": torch.bfloat16, "64-true": None}


@dataclass(frozen=True)
class Hardware:
    """Where a run computes, resolved on this machine.

    Attributes:
        accelerator: ``cpu``, ``cuda`` or ``mps``.
        precision: Lightning's name, never ``auto``.
        name: of the device, for people.
        threads: CPU threads of arithmetic.
        index: which of the machine's devices this process has; None: the only one.
    """

    accelerator: str
    precision: str
    name: str
    threads: int
    index: int | None = None

    @property
    def device(self) -> torch.device:
        """The torch device of this process."""
        return torch.device(self.accelerator) if self.index is None else torch.device(self.accelerator, self.index)

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The lower precision of matrix products in mixed precision; None: none."""
        return PRECISIONS[self.precision] if self.precision.endswith("mixed") else None

    @property
    def has_kernels(self) -> bool:
        """Whether lx computes with kernels of its own here, and not with torch's. Compiles them if need be."""
        return self.autocast_dtype is not None and native.are_here(self.device, self.autocast_dtype)

    @property
    def arithmetic(self) -> str:
        """Precision and kernels, for people."""
        return f"{self.precision}, lx's kernels" if self.has_kernels else self.precision


def resolve(
    accelerator: str = "auto", precision: str = "auto", threads: int | None = None, place: Place | None = None
) -> Hardware:
    """Find out what ``auto`` means here, and set the number of CPU threads.

    Args:
        accelerator: ``auto``, ``cpu``, ``gpu``, ``cuda`` or ``mps``.
        precision: Lightning's name, or ``auto``.
        threads: CPU threads of this process; None: an equal share of the cores for every process on this machine.
        place: of this process among those on this machine.

    Raises:
        LxError: the machine lacks what is asked for, or the name is not known.
    """
    kind = accelerator_kind(accelerator)
    _keep_freed_memory()
    if precision != "auto" and precision not in PRECISIONS:
        raise LxError(f"hardware.precision={precision} is not known: choose auto or one of {', '.join(PRECISIONS)}")
    neighbours = 1 if place is None else place.local_world_size
    if threads is not None or neighbours > 1:
        torch.set_num_threads(threads or max(1, num_cores() // neighbours))
    chosen = precision if precision != "auto" else ("bf16-mixed" if has_native_bf16(kind) else "32-true")
    index = None if kind != "cuda" or place is None else place.local_rank
    return Hardware(kind, chosen, _device_name(kind), torch.get_num_threads(), index)


def _keep_freed_memory() -> None:
    """Let the C library keep what tensors leave behind.

    A step of training allocates in its forward pass what its backward pass frees. glibc would hand that back to the
    system, and the next step would pay for each page anew: on a CPU, more than the arithmetic of many an operation.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def num_cores() -> int:
    """Cores that this process may use: a job may own a part of its machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_native_bf16(accelerator: str) -> bool:
    """Whether the chip computes in bf16 itself: detected, never assumed, since emulation is slower than float32."""
    if accelerator == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if accelerator == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def accelerator_kind(wanted: str) -> str:
    """``cpu``, ``cuda`` or ``mps``.

    Raises:
        LxError: this machine lacks it, or the name is not known.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(kind for kind, there in available.items() if there)
    kind = {"gpu": "cuda"}.get(wanted, wanted)
    if kind not in available:
        raise LxError(f"hardware.accelerator={wanted} is not known: choose auto, cpu, gpu or mps")
    if not available[kind]:
        raise LxError(
            f"hardware.accelerator={wanted}: this machine has none that torch can use; try hardware=cpu, or "
            "hardware=ddp_cpu for several processes"
        )
    return kind


def _device_name(kind: str) -> str:
    if kind == "cuda":
        return torch.cuda.get_device_name()
    if kind == "mps":
        return "Apple GPU"
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110 - a probe, no path to build on
        with open("/proc/cpuinfo", encoding="utf-8") as info:  # noqa: PTH123
            model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), model)
    return f"{model or platform.machine()}, {os.cpu_count()} cores"
