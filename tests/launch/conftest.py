"""Runs that nothing happened to, for the tests of what runs survive."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import assert_done
from support.corpus import write_splits
from support.faults import SETTINGS, STEPS
from support.forked import kill_forked, train
from support.process_table import assert_nothing_left
from support.ranks import interrupt, train_on_ranks
from support.run_files import rows


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the three splits and a cache."""
    return write_splits(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="session")
def whole(folder: Path) -> Path:
    """A run that nothing happened to."""
    assert_done(train(folder, "whole", *SETTINGS))
    assert len(rows(folder / "whole")) == STEPS
    return folder / "whole"


@pytest.fixture(scope="session")
def whole_of_two(folder: Path) -> Path:
    """A run on two ranks that nothing happened to."""
    train_on_ranks(folder, "whole-of-two", 2, *SETTINGS)
    return folder / "whole-of-two"


@pytest.fixture(scope="session")
def stopped(folder: Path) -> Path:
    """A run that was stopped, with two training states; copy it before you spoil it."""
    interrupt(folder, "stopped", 1, *SETTINGS)
    return folder / "stopped"


@pytest.fixture
def half(stopped: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A copy of the stopped run that trains in the process that resumes it."""
    run = stopped.with_name(re.sub(r"\W+", "-", request.node.name))
    shutil.copytree(stopped, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("launch: prepare", "launch: inline"))
    yield run
    assert_nothing_left(run)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """A test that fails leaves no process behind."""
    yield
    kill_forked()
