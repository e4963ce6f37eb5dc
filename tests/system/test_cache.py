"""What is built once is built by one process, and the others wait for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from lx.errors import LxError
from lx.system.cache import build_once
from support.waiting import wait_until

fork = multiprocessing.get_context("fork")


def build_slowly(folder: Path, seconds: float) -> None:
    def build(made: Path) -> None:
        (folder / f"began-{os.getpid()}").touch()
        time.sleep(seconds)
        (made / "content").touch()

    build_once(folder / "final", build)
    assert (folder / "final" / "content").exists()


def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    builders = [fork.Process(target=build_slowly, args=(tmp_path, 0.2)) for _ in range(4)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0] * 4
    assert len(list(tmp_path.glob("began-*"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("began")) == ["final"]


def test_when_the_builder_is_killed_another_builds(tmp_path: Path) -> None:
    killed = fork.Process(target=build_slowly, args=(tmp_path, 60))
    killed.start()
    wait_until(lambda: list(tmp_path.glob("began-*")), "it builds")
    waiting = fork.Process(target=build_slowly, args=(tmp_path, 0))
    waiting.start()
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    waiting.join()
    assert waiting.exitcode == 0


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(made: Path) -> None:
        (made / "half").touch()
        raise LxError("refused")

    with pytest.raises(LxError, match="refused"):
        build_once(tmp_path / "final", fail)
    assert list(tmp_path.iterdir()) == []
