"""What a run survives: numbers that are none, commands that are given twice, a service that does not answer."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from support.commands import assert_done, training
from support.faults import SETTINGS, STEPS, assert_same, assert_told
from support.forked import fork, train
from support.ranks import free_port
from support.run_files import result, rows
from support.waiting import wait_for_steps

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc"),
]


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


def test_a_run_that_is_trained_at_this_moment(half: Path, whole: Path) -> None:
    first = fork(half.parent, "resume", half.name)
    wait_for_steps(half, 30)
    first.send(signal.SIGSTOP)
    files = [half / "config.yaml", half / "result.json"]
    before = [file.read_bytes() for file in files]
    second = fork(half.parent, "resume", half.name, "trainer.max_epochs=+1").wait()
    third = fork(half.parent, *training(half.name, *SETTINGS, "resume=true")).wait()
    assert [file.read_bytes() for file in files] == before
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
