"""What a run survives: whatever happens to its processes, it says so once, and goes on to the very same weights."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lx.run.checkpoint import is_intact
from support.commands import Started, assert_done, start, training
from support.corpus import write_rows
from support.faults import SETTINGS, STEPS, assert_same, assert_told
from support.forked import fork, train
from support.process_table import assert_nothing_left, kill_all, workers_of
from support.ranks import interrupt, prepare, ranks, work
from support.run_files import result, rows
from support.waiting import wait_for_steps, wait_until

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc"),
]


@dataclass(frozen=True)
class Fault:
    """Something that happens to the processes of a run in mid-training.

    Attributes:
        name: of the test.
        happens: is given the run and its launcher.
        code: exit code of ``lx train``.
        says: what its one message must match; None: there is nobody left to say anything.
        status: in result.json; None: nobody left to write it.
        count: ranks.
    """

    name: str
    happens: Callable[[Path, Started], None]
    code: int
    says: str | None
    status: str | None
    count: int = 1


def kill_group(run: Path, launcher: Started) -> None:
    kill_all(run)


def kill_launcher(run: Path, launcher: Started) -> None:
    launcher.send(signal.SIGKILL)


def kill_rank(index: int) -> Callable[[Path, Started], None]:
    return lambda run, launcher: os.kill(workers_of(run)[index], signal.SIGKILL)


def send(number: signal.Signals, times: int = 1) -> Callable[[Path, Started], None]:
    def happens(run: Path, launcher: Started) -> None:
        for _ in range(times):
            launcher.send(number)
            time.sleep(0.002)

    return happens


FAULTS = [
    Fault("everything killed", kill_group, -9, None, None),
    Fault("launcher killed", kill_launcher, -9, None, None),
    Fault("worker killed", kill_rank(0), 1, r"worker process was killed by SIGKILL.*lx resume", "failed"),
    Fault("SIGTERM", send(signal.SIGTERM), 143, r"stopped by SIGTERM; to go on: lx resume", "stopped"),
    Fault("SIGINT", send(signal.SIGINT), 130, r"stopped by SIGINT; to go on: lx resume", "stopped"),
    Fault("everything killed, 2 ranks", kill_group, -9, None, None, count=2),
    Fault("launcher killed, 2 ranks", kill_launcher, -9, None, None, count=2),
    Fault("rank 0 killed", kill_rank(0), 1, r"rank 0 \(pid \d+\) was killed by SIGKILL", "failed", count=2),
    Fault("rank 1 killed", kill_rank(1), 1, r"rank 1 \(pid \d+\) was killed by SIGKILL", "failed", count=2),
    Fault("SIGTERM, 2 ranks", send(signal.SIGTERM), 143, r"stopped by SIGTERM; to go on: lx resume", "stopped", 2),
    Fault("SIGINT, 2 ranks", send(signal.SIGINT), 130, r"stopped by SIGINT; to go on: lx resume", "stopped", 2),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_processes_that_end(fault: Fault, folder: Path, request: pytest.FixtureRequest) -> None:
    run = folder / re.sub(r"\W+", "-", fault.name)
    several = ranks(fault.count) if fault.count > 1 else []
    launcher = start(folder, training(run.name, *several, *SETTINGS))
    wait_for_steps(run, 9)
    time.sleep(0.2 * random.random())
    at = time.monotonic()
    fault.happens(run, launcher)
    ended = launcher.wait()
    assert_nothing_left(run)
    assert time.monotonic() - at < 30
    assert len(rows(run)) < STEPS, "it was over too soon"
    if fault.says is None:
        assert ended.code == fault.code
        assert not (run / "result.json").exists()
    else:
        assert_told(ended, fault.code, fault.says)
        assert result(run)["status"] == fault.status
        assert fault.status != "stopped" or is_intact(run / "checkpoints" / "last.ckpt")
    work(folder, run.name, fault.count)
    assert_same(run, request.getfixturevalue("whole" if fault.count == 1 else "whole_of_two"))


def test_second_interrupt_is_obeyed_at_once(folder: Path, whole: Path) -> None:
    """Not even the end of a step is waited for: the worker, which stands still here, is killed."""
    run = folder / "insisted"
    launcher = start(folder, training(run.name, *SETTINGS))
    wait_for_steps(run, 9)
    (worker,) = workers_of(run)
    os.kill(worker, signal.SIGSTOP)
    launcher.send(signal.SIGINT)
    time.sleep(0.2)
    assert launcher.code is None
    launcher.send(signal.SIGINT)
    assert_told(launcher.wait(5), 130, "stopped by SIGINT; to go on: lx resume insisted")
    assert result(run)["status"] == "stopped"
    assert_nothing_left(run)
    work(folder, run.name)
    assert_same(run, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_worker_that_still_imports_is_stopped(number: signal.Signals, code: int, folder: Path, whole: Path) -> None:
    """In the seconds before it has handlers of its own."""
    run = folder / f"importing-{code}"
    launcher = start(folder, training(run.name, *SETTINGS))
    wait_until(lambda: workers_of(run), "a worker", poll=0.01)
    time.sleep(0.1)
    launcher.send(number)
    assert_told(launcher.wait(), code, f"stopped by {number.name}; to go on: lx resume {run.name}")
    assert result(run)["status"] == "stopped"
    assert not (run / "model.json").exists(), "it had begun"
    assert_nothing_left(run)
    assert_done(fork(folder, "resume", run.name).wait())
    assert_same(run, whole)


def test_lx_resume_on_two_ranks(folder: Path, whole_of_two: Path) -> None:
    interrupt(folder, "resumed", 2, *SETTINGS)
    config = folder / "resumed" / "config.yaml"
    config.write_text(config.read_text().replace("launch: prepare", "launch: process"))
    assert_done(start(folder, ["resume", "resumed"]).wait())
    assert_same(folder / "resumed", whole_of_two)


def test_killed_again_and_again(folder: Path, whole: Path) -> None:
    """At any instant of training, the writing of checkpoints and validations included."""
    run = folder / "hunted"
    prepare(folder, run.name, *SETTINGS)
    ends = []
    for life in range(8):
        process = fork(folder, "worker", run.name)
        wait_for_steps(run, 1 + 20 * life)
        time.sleep(0.2 * random.random())
        process.send(signal.SIGKILL)
        ends.append(process.wait().code)
    assert ends.count(-signal.SIGKILL) >= 4
    work(folder, run.name)
    assert_same(run, whole)


def test_sigterm_during_validation(folder: Path) -> None:
    """It acts at once; the validation is made up for."""
    write_rows(folder / "long.jsonl", 3000, start=5000, repeat=20, unbalanced=True)
    slow = ["data.validation=long.jsonl", "data.max_length=256", "trainer.max_steps=6", "trainer.val_check_interval=3"]
    assert_done(train(folder, "validated", *slow))
    run = folder / "in-validation"
    process = fork(folder, *training(run.name, *slow))
    wait_until(lambda: (run / "checkpoints" / "last.ckpt").exists(), "the state before a validation")
    at = time.monotonic()
    process.send(signal.SIGTERM)
    assert_told(process.wait(), 143, "stopped by SIGTERM")
    assert time.monotonic() - at < 5
    assert [row.get("val/accuracy", "") for row in rows(run)] == ["", "", ""]
    work(folder, run.name)
    assert_same(run, folder / "validated")


def test_data_loader_worker_killed(folder: Path) -> None:
    write_rows(folder / "many.jsonl", 2000, start=10000, unbalanced=True)
    many = ["data.train=many.jsonl", "trainer.max_steps=240", "trainer.save_every_n_steps=3"]  # an epoch
    assert_done(train(folder, "no-loaders", *many))
    run = folder / "loaders"
    process = fork(folder, *training(run.name, *many, "hardware.num_workers=2"))
    wait_for_steps(run, 9)
    os.kill(int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]), signal.SIGKILL)
    assert_told(process.wait(), 1, r"assembles batches \(pid [\d, ]+\) died.*lx resume loaders hardware.num_workers=0")
    assert result(run)["status"] == "failed"
    assert_nothing_left(run)
    assert_done(fork(folder, "resume", run.name, "hardware.num_workers=0").wait())
    assert_same(run, folder / "no-loaders")
