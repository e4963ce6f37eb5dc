"""Python's search for garbage is paused where there is none, and taken up again."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lx.system.gc import freeze_after_imports, gc_paused


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def test_the_search_pauses_and_goes_on_even_after_an_error() -> None:
    with gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), gc_paused():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_whoever_had_switched_it_off_finds_it_off() -> None:
    gc.disable()
    with gc_paused():
        pass
    assert not gc.isenabled()


def test_what_is_imported_for_good_is_looked_through_no_more_and_later_garbage_is_found() -> None:
    before = gc.get_freeze_count()
    with freeze_after_imports(False):
        pass
    assert gc.get_freeze_count() == before
    with freeze_after_imports():
        pass
    assert gc.get_freeze_count() > before + 10_000
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() > 0


@pytest.mark.slow
@pytest.mark.parametrize("module", ["lx.training.worker", "lx.launch.torchrun"])
def test_a_process_of_lx_looks_through_nothing_that_it_imports(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        """
import atexit, gc
found = []
gc.callbacks.append(lambda phase, info: found.append(info["generation"]) if phase == "start" else None)
atexit.register(lambda: print("searches through all:", found.count(2), "kept:", gc.get_freeze_count() > 100_000))
"""
    )
    command = [sys.executable, "-m", module, str(tmp_path / "no_run")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == "searches through all: 0 kept: True\n", ended.stderr
