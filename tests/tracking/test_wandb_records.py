"""What W&B holds of a run, whichever way the run went: the real client, and a server on loopback."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.commands import lx, start, training
from support.corpus import write_splits
from support.process_table import workers_of
from support.run_files import result
from support.waiting import wait_for_steps, wait_until
from support.wandb_records import inspect, parts, rows
from support.wandb_server import WandbRun, WandbServer

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows, one of them with a wrong label, in a repository with a change that is not committed."""
    folder = write_splits(tmp_path)
    with (folder / "test.jsonl").open("a") as file:
        file.write(json.dumps({"text": "bread onion soup", "label": "music"}) + "\n")
    (folder / "notes").write_text("one\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "notes"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    (folder / "notes").write_text("two\n")
    return folder


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, and none of the settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def tracked(*overrides: str) -> list[str]:
    """A run of some seconds that W&B records."""
    settings = ("logger.wandb.tags=[seven]", "logger.wandb.group=five", "logger.wandb.log_model=true", *overrides)
    return [text for text in training("run", *settings) if text != "logger=csv"]


def expected_rows(run: Path) -> Counter[tuple[int, str]]:
    """Step and kind of each row that a run logs, by its metrics.csv."""
    expected: Counter[tuple[int, str]] = Counter()
    with (run / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            expected[int(row["step"]), "train"] += bool(row["train/loss"])
            expected[int(row["step"]), "val"] += bool(row["val/loss"])
    return +expected


def recorded_rows(history: Iterable[Mapping[str, Any]]) -> Counter[tuple[int, str]]:
    kinds = [
        (row["trainer/global_step"], kind) for row in history for kind in ("train", "val") if f"{kind}/loss" in row
    ]
    return Counter(kinds)


def kill(folder: Path, command: list[str], env: Mapping[str, str], steps: int = 30) -> None:
    """Start a run and kill its worker after so many steps; W&B's client goes down with it."""
    begun = start(folder, command, env=env)
    wait_for_steps(folder / "run", steps)
    wait_until(lambda: (folder / "run/checkpoints/previous.ckpt").exists(), "a checkpoint before the last")
    for worker in workers_of(folder / "run"):
        os.kill(worker, signal.SIGKILL)
    assert begun.wait().code == 1


def assert_complete(run: WandbRun, directory: Path) -> None:
    """Every item is there, and none twice."""
    assert recorded_rows(run.history) == expected_rows(directory)
    steps = [row["_step"] for row in run.history]
    assert steps == sorted(set(steps))
    assert all("epoch" in row for row in run.history if "train/loss" in row or "val/loss" in row)

    ended, environment = result(directory), json.loads((directory / "environment.json").read_text())
    assert run.config["optimizer.lr"] == 0.03
    assert run.config["overrides"] == environment["overrides"] != []
    assert run.config["revision"] == environment["revision"]
    assert run.config["revision"].endswith("-dirty")
    assert run.config["corpus.fingerprint"] == json.loads((directory / "model.json").read_text())["data"]
    assert run.config["corpus.train.rows"] == len((directory.parent / "train.jsonl").read_text().splitlines())
    assert (run.fields["groupName"], run.fields["jobType"], run.fields["tags"]) == ("five", "train", ["seven"])

    assert run.summary["status"] == ended["status"] == "finished"
    for name in ("val/accuracy", "test/accuracy"):
        assert run.summary[name] == pytest.approx(ended["metrics"][name])
    tables = Counter(key.removesuffix("_table") for row in run.history for key in row if key.startswith("test/"))
    assert tables == Counter(["test/classes", "test/confusion", "test/reliability", "test/mistakes"])
    assert sum("report" in row for row in run.history) == (find_spec("matplotlib") is not None)
    aliases = run.artifacts["model", f"model-{environment['run_id']}"]
    assert sorted(aliases) == ["best", "latest", f"step-{ended['steps']}"]
    assert "diff.patch" in run.files  # a file of a name replaces the one before
    assert run.events, "system metrics"


LONG = ("trainer.max_epochs=20", "trainer.save_every_n_steps=7")


@pytest.mark.usefixtures("home")
def test_online(folder: Path) -> None:
    server = WandbServer()
    with server.serving() as env:
        trained = lx(folder, *tracked("trainer.max_epochs=2"), env=env)
    assert trained.returncode == 0, trained.stderr
    (run,) = server.runs.values()
    assert_complete(run, folder / "run")
    assert run.exit_codes == [0]
    assert "lx sync" not in trained.stdout


@pytest.mark.usefixtures("home")
def test_online_killed_and_resumed(folder: Path) -> None:
    server = WandbServer()
    with server.serving() as env:
        kill(folder, tracked(*LONG), env)
        (run,) = server.runs.values()
        assert run.exit_codes == [], "W&B shows a run without heartbeat as crashed"
        assert run.summary.get("status", "running") == "running", "a killed client may not have sent its summary"
        resumed = lx(folder, "resume", "run", env=env)
    assert resumed.returncode == 0, resumed.stderr
    assert_complete(run, folder / "run")
    assert run.exit_codes == [0]


@pytest.mark.usefixtures("home")
def test_offline_killed_resumed_and_synced(folder: Path) -> None:
    kill(folder, tracked(*LONG), {"WANDB_MODE": "offline"})
    resumed = lx(folder, "resume", "run", env={"WANDB_MODE": "offline"})
    assert resumed.returncode == 0, resumed.stderr
    assert len(parts(folder / "run")) == 2
    assert recorded_rows(rows(folder / "run")) == expected_rows(folder / "run")
    assert "lx sync run" in resumed.stdout
    server = WandbServer()
    with server.serving() as env:
        synced = lx(folder, "sync", "run", env=env)
        assert synced.returncode == 0, synced.stderr
        again = lx(folder, "sync", "run", env=env)
    assert "uploaded 1 run" in synced.stdout
    assert "nothing to upload" in again.stdout
    (run,) = server.runs.values()
    assert_complete(run, folder / "run")
    assert run.exit_codes[-1] == 0


@pytest.mark.usefixtures("home")
def test_logs_that_were_cut_off_are_uploaded_once(folder: Path) -> None:
    trained = lx(folder, *tracked("trainer.max_epochs=2"), env={"WANDB_MODE": "offline"})
    assert trained.returncode == 0, trained.stderr
    (part,) = parts(folder / "run")
    (log,) = part.glob("*.wandb")
    content = log.read_bytes()
    log.write_bytes(content[:-5])
    sizes = [0, 3, 7, 91, 150]  # none has the run's record whole, which ends after 200 bytes or more
    for size in sizes:
        earlier = part.with_name(f"offline-run-20200101_{size:06}-{part.name.rpartition('-')[2]}")
        earlier.mkdir()
        (earlier / log.name).write_bytes(content[:size])
    server = WandbServer()
    with server.serving() as env:
        synced = lx(folder, "sync", "run", env=env)
        assert synced.returncode == 0, synced.stderr
        again = lx(folder, "sync", "run", env=env)
    assert synced.stderr.count("is left out") == len(sizes)
    assert "uploaded 1 run" in synced.stdout
    assert "nothing to upload" in again.stdout
    (run,) = server.runs.values()
    assert recorded_rows(run.history) == expected_rows(folder / "run")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("how", ["failed", "stopped"])
def test_the_end_of_a_run_that_does_not_finish(how: str, folder: Path) -> None:
    learning_rate = {"failed": "1e30", "stopped": "0.03"}[how]
    begun = start(folder, tracked(*LONG, f"optimizer.lr={learning_rate}"), env={"WANDB_MODE": "offline"})
    if how == "stopped":
        wait_for_steps(folder / "run", 5)
        begun.send(signal.SIGTERM)
    ended = begun.wait()
    (part,) = parts(folder / "run")
    summary = json.loads(inspect(part, "--summary"))
    assert summary["summary"]["status"] == result(folder / "run")["status"] == how, ended.output
    assert summary["exit_code"] == ended.code == {"failed": 1, "stopped": 143}[how]
    assert summary["state"] == "failed"
