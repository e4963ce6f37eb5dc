"""What ``lx sync`` says when it cannot upload; tests/tracking/test_wandb_records.py uploads."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lx.cli.main import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a part that was recorded offline, and a person who is not logged in."""
    for name in ("API_KEY", "BASE_URL", "IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    run = tmp_path / "sweep" / "0"
    part = run / "wandb" / "offline-run-20260101_000000-cafe"
    part.mkdir(parents=True)
    (part / "run-cafe.wandb").touch()
    for marker in (run / "config.yaml", run.parent / "sweep.json"):
        marker.touch()
    return run


def test_not_logged_in(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", str(run.parent)]) == 1
    assert "not logged in at W&B: run `wandb login`" in capsys.readouterr().err


def test_unreachable(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, never listening: connections are refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        assert main(["sync", str(run)]) == 1
    assert f"W&B cannot be reached at {url}: " in capsys.readouterr().err


def test_nothing_left(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "wandb/offline-run-20260101_000000-cafe/run-cafe.wandb.synced").touch()
    assert main(["sync", str(run)]) == 0
    assert capsys.readouterr().out == "there is nothing to upload\n"


def test_a_folder_of_runs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.parent / "sweep.json").unlink()
    assert main(["sync", str(run.parent)]) == 1
    assert "not logged in at W&B" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"), [(["."], "neither a run nor a sweep"), (["none"], "no run directory none"), ([], "RUN")]
)
def test_bad_input(
    arguments: list[str], message: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run / "wandb")
    assert main(["sync", *arguments]) == 2
    assert message in capsys.readouterr().err
