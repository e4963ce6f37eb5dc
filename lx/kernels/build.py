"""Compiles the kernels of this package once for each processor, and loads them.

They are C for processors with AVX512-BF16. A compiler is asked for nothing but vectors and OpenMP, whose runtime is the
one that torch has loaded already: kernels and torch share their threads. Without such a processor or without a compiler
everything is computed by torch.
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

NEEDED = ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl", "avx512_bf16")
_NAME = "kernels.so"
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC")


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they cannot be had. The first call on a machine compiles, for some seconds."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if sys.platform != "linux" or compiler is None or not _is_processor_right():
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, LxError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        log.warning("kernels for this processor cannot be compiled, so torch computes everything: %s", reason.strip())
        return None


def _is_processor_right() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return all(capabilities.get(name, False) for name in NEEDED)


def _compiled(compiler: str) -> Path:
    """The library in the cache, in a folder named after everything that goes into it."""
    folder = Path(__file__).parent
    sources = sorted(folder.glob("*.c"))
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
    texts = [path.read_text(encoding="utf-8") for path in (*sources, *sorted(folder.glob("*.h")))]
    name = digest(version, _FLAGS, sorted(torch.cpu.get_capabilities().items()), texts)

    def build(scratch: Path) -> None:
        for source in sources:
            _run(compiler, *_FLAGS, "-c", str(source), "-o", str(scratch / f"{source.stem}.o"))
        # Linked without OpenMP's runtime: its symbols are those that torch has made known to everybody.
        _run(compiler, "-shared", "-o", str(scratch / _NAME), *map(str, scratch.glob("*.o")), "-lm")

    return build_once(cache_home(None) / "kernels" / name, build) / _NAME


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
