"""A tiny classifier, trained once for all the tests that need one; and how many processes run the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.tiny_run import train_tiny


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process a core for the fast tests, which keep to one; the tests of other tiers start processes of their own."""
    return min(os.cpu_count() or 1, 8) if config.option.markexpr.startswith("not ") else 0


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several processes one thread, which torch reads when it is imported."""
    if hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; copy it before you spoil it."""
    folder = tmp_path_factory.mktemp("trained")
    train_tiny(folder)
    return folder / "run"
