from __future__ import annotations

import io
import sys

import pytest

from lx.system.console import console


@pytest.mark.parametrize("stderr", [False, True])
def test_a_pipe_gets_plain_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stderr: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    console(stderr=stderr).print("x" * 110, style="bold red")
    out, err = capsys.readouterr()
    assert (err if stderr else out) == "x" * 110 + "\n"
    assert (out if stderr else err) == ""


def test_a_terminal_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    console().print("x", style="red")
    assert sys.stdout.getvalue() == "\x1b[31mx\x1b[0m\n"  # type: ignore[attr-defined]
