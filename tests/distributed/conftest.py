"""The corpus of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.processes import write_corpus


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the three splits and a cache."""
    return write_corpus(tmp_path_factory.mktemp("ranks"))
