"""The corpus of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.corpus import write_splits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory of a module's tests, with the three splits and a cache."""
    return write_splits(tmp_path_factory.mktemp("sweeps"))
