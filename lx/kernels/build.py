"""Compile the kernels once per processor, and load them.

They are C: those in this folder for CPUs with AVX512-BF16, those in `portable` for any. They need a compiler with
OpenMP, and use the OpenMP runtime that torch has loaded, so that kernels and torch share their threads. Without such a
CPU or a compiler, torch and numpy compute everything.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import torch

from lx.errors import LxError
from lx.system.cache import build_once, cache_home, digest

log = logging.getLogger(__name__)

REQUIRED_CAPABILITIES = ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl", "avx512_bf16")
_FOLDER = Path(__file__).parent
_NAME = "kernels.so"
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC")


@cache
def library() -> ctypes.CDLL | None:
    """Return the kernels of neural networks, or None without a compiler or a suitable CPU; compile them if need be."""
    return _load(_FOLDER) if _supports_processor() else None


@cache
def portable_library() -> ctypes.CDLL | None:
    """Return the kernels for any CPU, or None without a compiler; compile them if need be."""
    return _load(_FOLDER / "portable")


def _load(folder: Path) -> ctypes.CDLL | None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if sys.platform != "linux" or compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler, folder)))
    except (OSError, LxError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        log.warning("kernels cannot be compiled for this processor, so torch or numpy compute: %s", reason.strip())
        return None


def _supports_processor() -> bool:
    return all(torch.cpu.get_capabilities().get(name, False) for name in REQUIRED_CAPABILITIES)


def _compiled(compiler: str, folder: Path) -> Path:
    """Return the path of the library in the cache, whose folder is named by a digest of everything it is built from."""
    sources = sorted(folder.glob("*.c"))
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
    texts = [path.read_text(encoding="utf-8") for path in (*sources, *sorted(folder.glob("*.h")))]
    name = digest(version, _FLAGS, sorted(torch.cpu.get_capabilities().items()), texts)

    def build(scratch: Path) -> None:
        for source in sources:
            _run(compiler, *_FLAGS, "-c", str(source), "-o", str(scratch / f"{source.stem}.o"))
        # Linked without an OpenMP runtime: its symbols resolve to the one that torch has loaded globally.
        _run(compiler, "-shared", "-o", str(scratch / _NAME), *map(str, scratch.glob("*.o")), "-lm")

    return build_once(cache_home(None) / "kernels" / name, build) / _NAME


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
