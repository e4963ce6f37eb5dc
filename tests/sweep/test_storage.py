"""A sweep whose study lives in a database."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lx.errors import LxError
from lx.sweep.storage import open_storage
from lx.system.processes import SWEEP_STORAGE, child_environment
from support.commands import lx, start
from support.postgres import PASSWORD, PostgresServer, postgres, server_programs
from support.sweeps import leaderboard, objectives, statuses, sweep
from support.waiting import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A database with a password."""
    programs = server_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL server here: apt-get install postgresql")
    pytest.importorskip("psycopg")
    with postgres(programs) as running:
        yield running


@pytest.fixture
def address(server: PostgresServer) -> str:
    return server.address


@pytest.mark.slow
def test_workers_share_a_sweep_over_postgresql_and_the_password_stays_out_of_it(folder: Path, address: str) -> None:
    search = ["sweep=random", "optimizer.lr=tag(log,interval(1e-3,1e-1))", "sweep.n_trials=5", "sweep.threads=1"]
    search += ["trainer.max_epochs=15"]
    env = {SWEEP_STORAGE: address}
    first = start(folder, sweep("database", *search), env=env)
    wait_until(lambda: list((folder / "database").glob("*/claim.json")), "a run is claimed")
    second = start(folder, ["sweep", "work", "database"], env=env, preexec=os.setsid)
    wait_until(lambda: len(list((folder / "database").glob("*/claim.json"))) == 2, "two runs are claimed")
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    ended = first.wait()
    assert ended.code == 0, ended.output
    assert not (folder / "database" / "journal.log").exists()
    missing = lx(folder, "sweep", "resume", "database")
    assert missing.returncode == 2
    assert f"set {SWEEP_STORAGE}" in missing.stderr
    more = lx(folder, "sweep", "resume", "database", "sweep.n_trials=+1", env=env)
    assert more.returncode == 0, more.stderr
    assert len(leaderboard(folder / "database")) == 6
    assert lx(folder, *sweep("journal", *search, "sweep.n_trials=6")).returncode == 0
    assert objectives(folder / "database") == objectives(folder / "journal")
    written = [path for path in (folder / "database").rglob("*") if path.is_file()]
    assert not [path for path in written if PASSWORD.encode() in path.read_bytes()]
    assert PASSWORD not in ended.output


@pytest.mark.slow
def test_a_worker_that_loses_the_database_says_so_and_the_sweep_goes_on_later(
    folder: Path, server: PostgresServer
) -> None:
    search = ["sweep=random", "optimizer.lr=tag(log,interval(1e-3,1e-1))", "sweep.n_trials=3", "sweep.n_jobs=2"]
    env = {SWEEP_STORAGE: server.address}
    running = start(folder, sweep("lost", *search, "trainer.max_epochs=30"), env=env)
    wait_until(lambda: len(list((folder / "lost").glob("*/metrics.csv"))) == 2, "two runs train")
    server.stop()
    ended = running.wait()
    server.start()
    assert ended.code == 1, ended.output
    assert "the database of the sweep is lost" in ended.output
    assert "Traceback" not in ended.output
    assert PASSWORD not in ended.output
    assert {status for status, _, _ in statuses(folder / "lost").values()} <= {"finished", "stopped"}
    resumed = lx(folder, "sweep", "resume", "lost", env=env)
    assert resumed.returncode == 0, resumed.stderr
    assert [status for status, _, _ in statuses(folder / "lost").values()] == ["finished"] * 3


@pytest.mark.slow
def test_a_wrong_password_is_refused_and_not_shown(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWEEP_STORAGE, address.replace(PASSWORD, "lx"))
    with pytest.raises(LxError, match="password authentication failed") as refused:
        open_storage(tmp_path, "lx-1")
    assert "lx:lx" not in str(refused.value)


@pytest.mark.parametrize("address", ["nonsense", "postgresql+nothing://h/d", "postgresql+psycopg://u:pass@h:port/d"])
def test_a_wrong_address_is_refused_and_not_shown(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWEEP_STORAGE, address)
    with pytest.raises(LxError, match=SWEEP_STORAGE) as refused:
        open_storage(tmp_path, "lx-1")
    assert address not in str(refused.value)
    assert "pass" not in str(refused.value)


def test_the_processes_that_train_do_not_inherit_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWEEP_STORAGE, "postgresql://")
    assert SWEEP_STORAGE not in child_environment()
