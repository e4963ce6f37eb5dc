"""The corpus of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.corpus import write_splits


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the three splits and a cache."""
    return write_splits(tmp_path_factory.mktemp("sweeps"))
