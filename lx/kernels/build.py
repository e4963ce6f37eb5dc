"""Compile the kernels once per processor, and load them.

They are C for CPUs with AVX512-BF16. They need a compiler with OpenMP, and use the OpenMP runtime that torch has
loaded, so that kernels and torch share their threads. Without such a CPU or a compiler, torch computes everything.
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
_NAME = "kernels.so"
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC")


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None without a compiler or a suitable CPU. The first call compiles them."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if sys.platform != "linux" or compiler is None or not _supports_processor():
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, LxError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        log.warning(
            "the kernels for this processor cannot be compiled, so torch computes everything: %s", reason.strip()
        )
        return None


def _supports_processor() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return all(capabilities.get(name, False) for name in REQUIRED_CAPABILITIES)


def _compiled(compiler: str) -> Path:
    """Return the path of the library in the cache, whose folder is named by a digest of everything it is built from."""
    folder = Path(__file__).parent
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
