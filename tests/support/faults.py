"""Runs that something happens to, and what they must be like in the end."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

from support.commands import Ended
from support.run_files import assert_same_weights, result, rows

STEPS = 210
SETTINGS = ["trainer.max_epochs=30", "trainer.save_every_n_steps=3", "model.dropout=0.1", "model.token_dropout=0.1"]


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


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)
