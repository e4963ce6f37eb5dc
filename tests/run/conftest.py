"""Runs on one corpus and cache, for the tests of how runs go on."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lx.run.directory import RunDirectory
from lx.training.train import train_in
from support.corpus import write_rows
from support.interruptions import outcome, prepared


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, and a cache that all runs share."""
    place = tmp_path_factory.mktemp("place")
    write_rows(place / "train.jsonl", 50)
    write_rows(place / "test.jsonl", 18, start=100)
    return place


@pytest.fixture(scope="session")
def uninterrupted(place: Path) -> Callable[..., dict[str, Any]]:
    @functools.cache
    def train(*overrides: str) -> dict[str, Any]:
        run = prepared(place, f"whole-{len(list(place.iterdir()))}", *overrides)
        train_in(run)
        return outcome(run)

    return train


@pytest.fixture(scope="session")
def template(place: Path) -> RunDirectory:
    return prepared(place, "template")


@pytest.fixture
def untrained(template: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A run that is about to begin, in a directory of its own."""
    return RunDirectory(Path(shutil.copytree(template.path, tmp_path / "untrained")))
