"""Fake CUDA tensors, with shapes, dtypes and devices but no values, under builds of torch for CPUs too."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

# A build for CPUs lacks the guard of CUDA devices, which indexing and autograd ask for. This one does nothing.
_GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
C10_REGISTER_GUARD_IMPL(CUDA, c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>)
"""


@cache
def allow_fake_cuda() -> None:
    """Register the guard in this process; skip the test where there is no compiler."""
    if torch.backends.cuda.is_built():
        return
    compiler = next(filter(None, map(shutil.which, ("g++", "clang++"))), None)
    if compiler is None:
        pytest.skip("a C++ compiler builds what a torch for CPUs lacks")
    torch_home = Path(torch.__file__).parent
    library = Path(tempfile.gettempdir()) / f"lx-fake-cuda-{torch.__version__}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory() as folder:
            source, built = Path(folder) / "guard.cpp", Path(folder) / "guard.so"
            source.write_text(_GUARD)
            options = ["-std=c++20", "-shared", "-fPIC", f"-I{torch_home / 'include'}", f"-L{torch_home / 'lib'}"]
            subprocess.run([compiler, *options, str(source), "-lc10", "-o", str(built)], check=True)
            shutil.copy(built, partial := library.with_suffix(f".{Path(folder).name}"))
            Path(partial).replace(library)
    ctypes.CDLL(str(library))
