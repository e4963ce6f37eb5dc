"""Kernels are compiled once, and done without where they cannot be."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lx.kernels import build
from lx.kernels.binding import supports

takes_compiler = pytest.mark.skipif(build.portable_library() is None, reason="takes a C compiler")
takes_kernels = pytest.mark.skipif(build.library() is None, reason="takes AVX512-BF16 and a C compiler")


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of this test's own, and nothing remembered."""
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    build.library.cache_clear()
    build.portable_library.cache_clear()
    yield
    build.library.cache_clear()
    build.portable_library.cache_clear()


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.so"))


@takes_kernels
@pytest.mark.slow
def test_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "counting-cc"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {os.environ.get("CC", "cc")} "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert build.library() is not None
    (compiled,) = libraries(tmp_path)
    (tmp_path / "calls").unlink()
    build.library.cache_clear()
    assert build.library() is not None
    assert libraries(tmp_path) == [compiled]
    assert (tmp_path / "calls").read_text() == "--version\n"


@takes_kernels
def test_a_failing_compiler_is_reported_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = tmp_path / "broken-cc"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no header immintrin.h" >&2; exit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with caplog.at_level(logging.WARNING):
        assert build.library() is None
    assert "no header immintrin.h" in caplog.text
    assert libraries(tmp_path) == []
    assert not supports(torch.zeros(2, 32, dtype=torch.bfloat16))


@pytest.mark.parametrize("missing", ["compiler", "processor", "system"])
def test_missing_requirements_are_done_without(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "compiler":
        monkeypatch.setenv("CC", "no-such-compiler")
    elif missing == "processor":
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    else:
        monkeypatch.setattr(build, "sys", SimpleNamespace(platform="win32"))
    assert build.library() is None
    if missing != "processor":
        assert build.portable_library() is None


@takes_compiler
def test_portable_kernels_take_no_certain_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert build.library() is None
    assert build.portable_library() is not None
    assert len(libraries(tmp_path)) == 1
