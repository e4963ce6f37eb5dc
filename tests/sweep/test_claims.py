"""Who may run a run of a sweep: claims, as several workers and machines see them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from lx.run.directory import RunDirectory
from lx.sweep import claims as module
from lx.sweep.claims import DEAD_S, Claims
from lx.sweep.trials import Replicate

_fork = multiprocessing.get_context("fork")


@pytest.fixture
def replicate(tmp_path: Path) -> Replicate:
    """A run of a trial."""
    (tmp_path / "0").mkdir()
    return Replicate(0, 1, RunDirectory(tmp_path / "0" / "seed-1"), tmp_path / "0" / "seed-1.output.txt")


class Clock:
    """A clock that tests move on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def elsewhere(tmp_path: Path, replicate: Replicate) -> Path:
    """A claim as a worker of another machine has written it: this machine's kernel has no lock for it."""
    claims = Claims(tmp_path, machine="elsewhere")
    assert claims.take(replicate)
    path = tmp_path / "0" / "seed-1.claim.json"
    content = path.read_text()
    claims.release(replicate)
    path.write_text(content)
    return path


def hold(tmp_path: Path, replicate: Replicate, taken: multiprocessing.synchronize.Event) -> None:
    claims = Claims(tmp_path)
    assert claims.take(replicate)
    taken.set()
    signal.pause()


def test_a_claim_is_one_workers_until_it_dies(tmp_path: Path, replicate: Replicate) -> None:
    taken = _fork.Event()
    other = _fork.Process(target=hold, args=(tmp_path, replicate, taken))
    other.start()
    claims = Claims(tmp_path)
    try:
        assert taken.wait(60)
        assert not claims.take(replicate)
        assert json.loads((tmp_path / "0" / "seed-1.claim.json").read_text())["pid"] == other.pid
    finally:
        other.kill()
        other.join()
    assert claims.take(replicate)
    assert claims.holds(replicate)
    assert not claims.take(replicate)
    assert claims.release(replicate)
    assert not (tmp_path / "0" / "seed-1.claim.json").exists()


def test_a_claim_of_another_machine_is_dead_after_a_minute_without_a_heartbeat(
    tmp_path: Path, replicate: Replicate, clock: Clock
) -> None:
    path = elsewhere(tmp_path, replicate)
    claims = Claims(tmp_path)
    os.utime(path, (0, 0))  # clocks of two machines are never compared
    assert not claims.take(replicate)
    clock.seconds += DEAD_S - 1
    assert not claims.take(replicate)
    os.utime(path, (1, 1))
    clock.seconds += 2
    assert not claims.take(replicate)
    clock.seconds += DEAD_S
    assert claims.take(replicate)
    claims.release(replicate)


def test_a_worker_that_was_not_heard_of_finds_its_run_taken_over(
    tmp_path: Path, replicate: Replicate, clock: Clock
) -> None:
    slow = Claims(tmp_path, machine="elsewhere")
    assert slow.take(replicate)
    path = tmp_path / "0" / "seed-1.claim.json"
    before = path.stat().st_mtime_ns
    os.utime(path, (0, 0))
    assert not slow.beat()
    clock.seconds += DEAD_S
    assert slow.beat()
    assert path.stat().st_mtime_ns >= before
    assert slow.holds(replicate)
    path.write_text(json.dumps({"worker": "another"}))
    assert not slow.holds(replicate)
    assert not slow.release(replicate)
    assert path.exists()


def test_a_claim_that_was_torn_is_dead(tmp_path: Path, replicate: Replicate) -> None:
    (tmp_path / "0" / "seed-1.claim.json").write_text('{"machine": "els')
    claims = Claims(tmp_path)
    assert claims.take(replicate)
    claims.release(replicate)
