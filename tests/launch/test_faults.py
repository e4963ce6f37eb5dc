"""What a run survives: whatever happens to it, it says so once, and goes on to the very same weights."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lx.run.checkpoint import is_intact
from support.commands import Ended, Started, assert_done, start, training
from support.corpus import write_rows, write_splits
from support.forked import fork, kill_forked, train
from support.process_table import assert_nothing_left, kill_all, workers_of
from support.ranks import free_port, interrupt, prepare, ranks, train_on_ranks, work
from support.run_files import assert_same_weights, result, rows
from support.waiting import wait_for_steps, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc"),
]

STEPS = 210
SETTINGS = ["trainer.max_epochs=30", "trainer.save_every_n_steps=3", "model.dropout=0.1", "model.token_dropout=0.1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the three splits and a cache."""
    return write_splits(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A run that nothing happened to."""
    assert_done(train(folder, "whole", *SETTINGS))
    assert len(rows(folder / "whole")) == STEPS
    return folder / "whole"


@pytest.fixture(scope="module")
def whole_of_two(folder: Path) -> Path:
    """A run on two ranks that nothing happened to."""
    train_on_ranks(folder, "whole-of-two", 2, *SETTINGS)
    return folder / "whole-of-two"


@pytest.fixture(scope="module")
def stopped(folder: Path) -> Path:
    """A run that was stopped, with two training states; copy it before you spoil it."""
    interrupt(folder, "stopped", 1, *SETTINGS)
    return folder / "stopped"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A test that fails leaves no process behind."""
    yield
    kill_forked()


@pytest.fixture
def half(stopped: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A copy of the stopped run that trains in the process that resumes it."""
    run = stopped.with_name(re.sub(r"\W+", "-", request.node.name))
    shutil.copytree(stopped, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("launch: prepare", "launch: inline"))
    yield run
    assert_nothing_left(run)


def assert_same(found: Path, expected: Path) -> None:
    """The metrics of every step, and every bit of the weights."""
    assert result(found)["status"] == "finished"
    assert rows(found) == rows(expected)
    assert_same_weights(found, expected)
    for name in ("metrics", "objective", "steps", "confusion_matrix"):
        assert result(found)[name] == result(expected)[name]


def assert_told(ended: Ended, code: int, *says: str) -> None:
    """The exit code, and one message with all that it must say."""
    assert ended.code == code, ended.output
    assert "Traceback" not in ended.output
    assert len(ended.messages) == 1, ended.output
    for part in says:
        assert re.search(part, ended.messages[0]), ended.output


# ---- processes


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
    many = ["data.train=many.jsonl", "trainer.max_steps=80", "trainer.save_every_n_steps=3"]
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


# ---- files


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_damaged_state(damage: Callable[[Path], None], half: Path, whole: Path) -> None:
    damage(half / "checkpoints" / "last.ckpt")
    ended = fork(half.parent, "resume", half.name).wait()
    assert_done(ended)
    assert ended.output.count("last.ckpt is damaged: its checksum does not fit") == 1
    assert_same(half, whole)


def test_both_states_damaged(half: Path) -> None:
    flip_a_bit(half / "checkpoints" / "last.ckpt")
    truncate(half / "checkpoints" / "previous.ckpt")
    ended = fork(half.parent, "resume", half.name).wait()
    assert_told(ended, 2, "all training states in .*checkpoints are damaged: remove them")


def test_disk_that_takes_no_more(half: Path, whole: Path) -> None:
    """A limit on the size of files: log and metrics are small enough, checkpoints are not."""
    before = {path: path.read_bytes() for path in (half / "checkpoints").iterdir()}
    limit = min(map(len, before.values())) // 2
    preexec = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # noqa: E731
    ended = start(half.parent, ["resume", half.name], preexec=preexec).wait()
    assert_told(ended, 1, r"cannot write the checkpoint .*\.ckpt: File too large; .*lx resume")
    assert result(half)["status"] == "failed"
    assert {path: path.read_bytes() for path in (half / "checkpoints").iterdir()} == before
    assert all(is_intact(path) for path in before)
    assert_done(fork(half.parent, "resume", half.name).wait())
    assert_same(half, whole)


def fill(path: Path) -> None:
    """Leave no room on a disk."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def test_full_disk(folder: Path, whole: Path) -> None:
    """What was saved before is whole, and serves when there is room again."""
    disk, run = folder / "disk", folder / "disk" / "run"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("may not mount a small disk")
    try:
        process = fork(folder, *training("disk/run", *SETTINGS))
        wait_for_steps(run, 9)
        fill(disk / "filler")
        assert_told(process.wait(), 1, "cannot write .*: No space left on device")
        assert len(rows(run)) < STEPS
        assert is_intact(run / "checkpoints" / "last.ckpt")
        (disk / "filler").unlink()
        assert_done(fork(folder, "resume", "disk/run").wait())
        assert_same(run, whole)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_log_that_cannot_be_written(half: Path, whole: Path) -> None:
    """No reason to stop, and nothing to tell at every line."""
    (half / "log.txt").unlink()
    (half / "log.txt").symlink_to("/dev/full")
    ended = fork(half.parent, "resume", half.name).wait()
    assert_done(ended)
    assert "Logging error" not in ended.output
    assert_same(half, whole)


def test_changed_data_is_refused(half: Path) -> None:
    place = half.parent / "changed"
    place.mkdir()
    write_splits(place)
    shutil.move(half, place / half.name)
    write_rows(place / "train.jsonl", 50, start=1, unbalanced=True)
    before = {path.name: path.read_bytes() for path in (place / half.name / "checkpoints").iterdir()}
    assert_told(fork(place, "resume", half.name).wait(), 2, "the data is not what .* was trained on")
    assert {path.name: path.read_bytes() for path in (place / half.name / "checkpoints").iterdir()} == before


# ---- numbers


def test_loss_that_is_no_number(folder: Path) -> None:
    ended = train(folder, "no-number", "optimizer.lr=1e30", "scheduler=constant", "trainer.max_epochs=2")
    assert_told(ended, 1, r"error: step \d+: loss (nan|inf).*, at learning rate \d.*: (\d+, )+.*trainer.on_nan=skip")
    assert result(folder / "no-number")["status"] == "failed"
    assert re.search(r"step \d+: loss", result(folder / "no-number")["error"])


def test_updates_that_are_skipped_are_counted(folder: Path) -> None:
    lr = ["optimizer.lr=1e30", "scheduler=constant", "trainer.max_epochs=2", "trainer.on_nan=skip"]
    assert_done(train(folder, "skipped", *lr))
    assert result(folder / "skipped")["steps"] == 14
    skipped = [float(row["skipped_updates"]) for row in rows(folder / "skipped")]
    assert skipped == sorted(skipped) and 0 < skipped[-1] < 14


# ---- going on


def test_a_run_that_is_trained_at_this_moment(half: Path, whole: Path) -> None:
    first = fork(half.parent, "resume", half.name)
    wait_for_steps(half, 30)
    first.send(signal.SIGSTOP)
    config = (half / "config.yaml").read_bytes()
    second = fork(half.parent, "resume", half.name, "trainer.max_epochs=+1").wait()
    third = fork(half.parent, *training(half.name, *SETTINGS, "resume=true")).wait()
    assert not (half / "result.json").exists()
    assert (half / "config.yaml").read_bytes() == config
    first.send(signal.SIGCONT)
    for refused in (second, third):
        assert_told(refused, 2, "is being trained by another process")
    assert_done(first.wait())
    assert_same(half, whole)


def test_a_finished_run(half: Path, whole: Path) -> None:
    resume = ["resume", half.name]
    assert_done(fork(half.parent, *resume).wait())
    again = fork(half.parent, *resume).wait()
    assert_done(again)
    assert "has finished: nothing to do" in again.output
    assert_same(half, whole)
    assert_done(fork(half.parent, *resume, "trainer.max_epochs=+1").wait())
    assert result(half)["steps"] == STEPS + 7
    assert rows(half)[: STEPS - 1] == rows(whole)[: STEPS - 1]
    assert [int(row["step"]) for row in rows(half)] == list(range(1, STEPS + 8))


def test_the_same_command_again(half: Path, whole: Path) -> None:
    different = fork(half.parent, *training(half.name, *SETTINGS, "optimizer.lr=0.1", "resume=true")).wait()
    assert_told(different, 2, "holds another run; these settings differ: optimizer.lr")
    equal = fork(half.parent, *training(half.name, *SETTINGS, "resume=true")).wait()
    assert_done(equal)
    assert "going on after step" in equal.output
    assert_same(half, whole)


def test_a_wandb_that_does_not_answer(folder: Path) -> None:
    unreachable = {"WANDB_BASE_URL": f"http://127.0.0.1:{free_port()}", "WANDB_API_KEY": "0123456789" * 4}
    online = ["logger=wandb", "logger.wandb.mode=online", "logger.wandb.init_timeout=2"]
    online += ["logger.wandb.finish_timeout=2", "trainer.max_epochs=2"]
    ended = train(folder, "unheard", *online, env={**unreachable, "WANDB_MODE": "online"})
    assert_done(ended)
    assert result(folder / "unheard")["status"] == "finished"
    assert ended.output.count("W&B records offline (not reachable)") == 1, ended.output
