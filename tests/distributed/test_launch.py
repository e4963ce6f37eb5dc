"""The ways to start several processes, and what they do with bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import assert_done, start, training
from support.process_table import assert_nothing_left
from support.ranks import prepare, ranks
from support.run_files import losses, result

pytestmark = pytest.mark.distributed


def test_torchrun_starts_the_workers(folder: Path) -> None:
    prepare(folder, "torchrun", *ranks(2), "trainer.max_steps=4")
    arguments = ["--standalone", "--nproc-per-node", "2", "-m", "lx.training.worker", "torchrun"]
    assert_done(start(folder, arguments, module="torch.distributed.run").wait())
    assert result(folder / "torchrun")["status"] == "finished"
    assert len(losses(folder / "torchrun")) == 4


def test_two_runs_side_by_side(folder: Path) -> None:
    names = ["left", "right"]
    launchers = [start(folder, training(name, *ranks(2), "trainer.max_steps=4")) for name in names]
    for name, launcher in zip(names, launchers, strict=True):
        assert_done(launcher.wait())
        assert result(folder / name)["steps"] == 4
        assert_nothing_left(folder / name)
    assert losses(folder / "left") == losses(folder / "right")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.test=spices.jsonl", ["spices.jsonl:2", "'spice'", "food, music, space"]),
        ("data.batch_size=500", ["data.batch_size=500 is larger than the training split (50 examples)"]),
    ],
)
def test_bad_input_gets_one_message(override: str, says: list[str], folder: Path) -> None:
    (folder / "spices.jsonl").write_text('{"text": "a", "label": "food"}\n{"text": "b", "label": "spice"}\n')
    ended = start(folder, training("bad", *ranks(2), override)).wait()
    assert ended.code == 2, ended.output
    assert "Traceback" not in ended.output
    assert ended.output.count("error: ") == 1, ended.output
    assert all(part in ended.messages[0] for part in says), ended.output
    assert not (folder / "bad").exists()
    assert_nothing_left(folder / "bad")
