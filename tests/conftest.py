"""A tiny classifier, trained once for all the tests that need one."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.tiny_run import train_tiny


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; copy it before you spoil it."""
    folder = tmp_path_factory.mktemp("trained")
    train_tiny(folder)
    return folder / "run"
