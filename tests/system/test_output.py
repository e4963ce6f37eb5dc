"""Whatever is printed is text, and printing never fails."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest
from rich.table import Table
from rich.text import Text

from lx.cli.main import main
from lx.errors import LxError
from lx.report.tables import pairs_table, result_table
from lx.system import progress
from lx.system.console import console, show
from lx.system.logging import log_to
from lx.system.output import DataStream, escape, flush_streams, open_streams, say
from lx.system.processes import report_exit
from lx.tasks.tables import worst_classes

HOSTILE = {
    "a terminal's title": ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
    "colour": ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
    "one-byte CSI": ("\x9b2J", "\\x9b2J"),
    "return over the line": ("bad\rgood", "bad\\rgood"),
    "backspace": ("bad\b\b\bgood", "bad\\x08\\x08\\x08good"),
    "reversed": ("\u202egnp.exe", "\\u202egnp.exe"),
    "isolated": ("\u2066x\u2069", "\\u2066x\\u2069"),
    "half a pair": ("\ud83d", "\\ud83d"),
    "closing markup": ("[/INST]", "[/INST]"),
    "markup": ("[b]x", "[b]x"),
    "link": ("[link=http://x]y[/link]", "[link=http://x]y[/link]"),
    "emoji code": (":smile:", ":smile:"),
    "backslash": ("\\[b]", "\\[b]"),
    "letters": ("文本 café", "文本 café"),
}


@pytest.mark.parametrize(("text", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_text_is_shown_as_it_is_in_every_place(
    text: str, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = Table("split", title=text, caption=text)
    table.add_row(text)
    scores = {"name": text, "support": 3, "f1": 0.5, "precision": 0.5, "recall": 0.5}
    show(table, pairs_table(text, {text: text}), result_table({text: 0.5}, 1.0), text)
    show(worst_classes([scores, scores], [(text, 1), None]))
    say(text)
    report_exit(f"error: {text}", 2)
    with log_to(tmp_path / "log.txt"):
        logging.getLogger("lx.data").warning(text)
    out, err = capsys.readouterr()
    assert out.count(expected) == 3 + 3 + 1 + 1 + 3 + 1
    assert err.count(expected) == 2
    assert expected in (tmp_path / "log.txt").read_text(encoding="utf-8")
    show(Text(text))  # rich's own text, as other libraries print it
    printed = out + err + capsys.readouterr().out
    assert escape(printed) == printed


def test_progress_takes_its_description_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    with progress.track("read [/x]\x1b]0;owned\x07.csv", 3) as done:
        done(3)
    assert "read [/x]\\x1b]0;owned\\x07.csv" in terminal.getvalue()


def test_a_long_message_keeps_its_cause_and_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_exit("error: the cause " + "x" * 5000 + " the cure", 2) == 2
    message = capsys.readouterr().err
    assert message.startswith("lx: error: the cause xx") and message.endswith("xx the cure\n")
    assert len(message) < 1000


def _closed_pipe() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def _full_disk() -> TextIO:
    return Path("/dev/full").open("w")


LONG = "x" * 100_000  # more than a buffer holds


@pytest.mark.parametrize("text", ["x", LONG], ids=["short", "long"])
@pytest.mark.parametrize("unwritable", [_closed_pipe, _full_disk])
def test_printing_never_fails(unwritable: Callable[[], TextIO], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with unwritable() as stdout, unwritable() as stderr:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", stderr)
        show(text, text)
        say(text)
        say(text, sys.stderr)
        assert report_exit(text, 2) == 2
        assert flush_streams(0) == 0


@pytest.mark.parametrize(("unwritable", "expected"), [(_closed_pipe, 0), (_full_disk, 2)])
def test_lost_output_is_a_failure_where_the_output_is_the_result(
    unwritable: Callable[[], TextIO], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in (0, 1):
        with unwritable() as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            print("held back")
            assert flush_streams(code) == (code or expected)


@pytest.mark.parametrize(("unwritable", "expected"), [(_closed_pipe, BrokenPipeError), (_full_disk, LxError)])
def test_data_that_cannot_be_written_ends_the_command(
    unwritable: Callable[[], TextIO], expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    with unwritable() as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(expected):
            DataStream().write(LONG)
        DataStream().write("x")  # which is held back
        with pytest.raises(expected):
            DataStream().flush()
        flush_streams(0)


def test_data_is_escaped_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, expected in ((_Terminal(), "\\x1b[31m"), (io.StringIO(), "\x1b[31m")):
        monkeypatch.setattr(sys, "stdout", stream)
        DataStream().write("\x1b[31m")
        assert stream.getvalue() == expected


def test_a_process_without_streams_gets_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    open_streams()
    assert (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)  # type: ignore[attr-defined]
    assert sys.stdout.errors == "backslashreplace"  # type: ignore[attr-defined]


def test_predictions_need_an_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["predict", "run"]) == 2
    assert "standard input is closed" in capsys.readouterr().err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_console_is_a_terminal_only_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", _Terminal())
    assert console(stderr=True).is_terminal and not console().is_terminal
