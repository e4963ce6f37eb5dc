"""W&B sweeps: the real ``wandb sweep`` and ``wandb agent``, lx in their processes, a server on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from lx.config.compose import compose
from lx.config.json_overrides import overrides_from_json
from support.commands import environment, lx, start, training
from support.corpus import write_splits
from support.process_table import workers_of
from support.ranks import ranks
from support.run_files import losses, result
from support.waiting import wait_until
from support.wandb_server import WandbRun, WandbServer

READY = sorted((Path(__file__).parents[2] / "sweeps").glob("wandb_*.yaml"))
_WANDB = [sys.executable, "-m", "wandb"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_splits(tmp_path)


def without_wandb(folder: Path) -> dict[str, str]:
    """The environment of a person who has never used W&B."""
    inherited = {name: value for name, value in environment(folder).items() if not name.startswith("WANDB_")}
    return {**inherited, "HOME": str(folder / "home")}


def run_agent(folder: Path, server: Mapping[str, str], *overrides: str) -> str:
    """Create a sweep and let an agent run its trials to the end; return what both printed."""
    train, *settings = training("unused", *overrides)
    settings = [text for text in settings if not text.startswith(("run_dir=", "logger="))]
    definition = yaml.safe_load(READY[0].read_text())
    command = ["${env}", sys.executable, "-m", "lx", train, *settings, "--json-overrides", "${args_json}"]
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**definition, "command": command}))
    env = {**without_wandb(folder), **server}
    created = subprocess.run([*_WANDB, "sweep", "sweep.yaml"], cwd=folder, env=env, capture_output=True, text=True)
    assert created.returncode == 0, created.stderr
    (sweep,) = [line.split()[-1] for line in created.stderr.splitlines() if "wandb agent" in line]
    agent = subprocess.run(
        [*_WANDB, "agent", sweep], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert agent.returncode == 0, agent.stderr
    return agent.stdout + agent.stderr


def directory_of(folder: Path, run_id: str) -> Path:
    """The run directory that an agent's run trains in."""
    (found,) = [
        path.parent
        for path in folder.glob("runs/*/environment.json")
        if json.loads(path.read_text())["run_id"] == run_id
    ]
    return found


def validations(run: WandbRun) -> list[float]:
    return [row["val/accuracy"] for row in run.history if "val/accuracy" in row]


def best_accuracy(run: WandbRun) -> float:
    """The objective of the best checkpoint."""
    best = min((row for row in run.history if "val/loss" in row), key=lambda row: row["val/loss"])
    return float(best["val/accuracy"])


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_sweep_sets_what_lx_knows(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    parameters = sweep["parameters"].items()
    largest = {key: values.get("values", [values.get("max")])[-1] for key, values in parameters}
    settings = sweep["command"][3 : sweep["command"].index("--json-overrides")]
    cfg = compose([*settings, *overrides_from_json(json.dumps(largest))])
    assert cfg.objective.metric == sweep["metric"]["name"]
    assert cfg.optimizer.lr == largest["optimizer.lr"]


@pytest.mark.slow
def test_the_agent_runs_three_trials_one_of_them_on_two_ranks(folder: Path) -> None:
    server = WandbServer(
        [
            {"optimizer.lr": 1e-05, "trainer.gradient_clip_val": None},
            {"optimizer.lr": 0.03, "hardware": "ddp_cpu", "hardware.devices": 2, "hardware.precision": "32-true"},
            {"optimizer.lr": 0.01, "data.text": "text", "name": "a, b=c 学习"},
        ]
    )
    with server.serving() as env:
        output = run_agent(folder, env, "trainer.max_epochs=4")
    assert sorted(server.runs) == ["trial0000", "trial0001", "trial0002"], output
    for run in server.runs.values():
        assert run.exit_codes == [0], output
        assert run.fields["sweep"] == "sweep001"
        assert run.project == "lx"
        assert not any(isinstance(value, dict) and value for value in run.config.values())
        directory = directory_of(folder, run.name)
        assert len(validations(run)) == 4
        assert run.summary["val/accuracy"] == result(directory)["objective"] == pytest.approx(best_accuracy(run))
        assert run.summary["status"] == result(directory)["status"] == "finished"
    first, second, third = server.runs.values()
    assert first.config["optimizer.lr"] == 1e-05
    assert first.config["trainer.gradient_clip_val"] is None
    assert second.config["hardware.devices"] == 2
    assert third.config["name"] == "a, b=c 学习"


@pytest.mark.slow
@pytest.mark.parametrize("hardware", [[], ranks(2)], ids=["one process", "two ranks"])
@pytest.mark.parametrize("stop_by", ["agent", "client"])
def test_a_run_that_is_stopped_at_wandb_is_pruned_and_no_failure(
    stop_by: str, hardware: list[str], folder: Path
) -> None:
    server = WandbServer([{"optimizer.lr": 0.03}], stop_by, lambda run: len(validations(run)) > 1)
    with server.serving() as env:
        output = run_agent(folder, env, "trainer.max_epochs=100000", *hardware)
    (run,) = server.runs.values()
    assert run.exit_codes == [0], output
    assert "failed" not in output
    ended = result(directory_of(folder, run.name))
    assert ended["status"] == run.summary["status"] == "pruned"
    assert run.config["hardware.devices"] == (2 if hardware else 1)
    assert ended["objective"] == run.summary["val/accuracy"] == pytest.approx(best_accuracy(run))


@pytest.mark.slow
def test_a_run_of_an_agent_goes_on_as_the_same_run(folder: Path) -> None:
    server = WandbServer()
    agent = {"WANDB_SWEEP_ID": "sweep001", "WANDB_RUN_ID": "trial7", "WANDB_PROJECT": "books", "WANDB_ENTITY": "shelf"}
    command = [text for text in training("run", "trainer.max_epochs=60") if text != "logger=csv"]
    with server.serving() as env:
        begun = start(folder, command, env={**without_wandb(folder), **env, **agent})
        wait_until(lambda: any(validations(run) for run in server.runs.values()), "a validation")
        (worker,) = workers_of(folder / "run")
        os.kill(worker, signal.SIGKILL)
        assert begun.wait().code == 1
        logged = len(server.runs["trial7"].history)
        resumed = lx(folder, "resume", "run", env={**without_wandb(folder), **env})
    assert resumed.returncode == 0, resumed.stderr
    assert {name: run.project for name, run in server.runs.items()} == {"trial7": "books"}
    run = server.runs["trial7"]
    assert len(run.history) > logged
    assert run.history[0]["trainer/global_step"] == 1
    assert run.history[-1]["trainer/global_step"] == max(losses(folder / "run"))
    assert run.summary["val/accuracy"] == result(folder / "run")["objective"]


@pytest.mark.slow
def test_the_runs_of_a_sweep_of_lx_are_a_group(folder: Path) -> None:
    train, *settings = training("unused", "trainer.max_epochs=1", "optimizer.lr=0.01,0.03", "sweep.dir=rates")
    server = WandbServer()
    with server.serving() as env:
        settings = [text for text in settings if not text.startswith(("run_dir=", "logger="))]
        done = lx(folder, train, "-m", *settings, env={**without_wandb(folder), **env})
    assert done.returncode == 0, done.stderr
    fields = [(run.fields["groupName"], run.fields["jobType"], run.exit_codes) for run in server.runs.values()]
    assert fields == [("rates", "trial", [0])] * 2
    assert sorted(run.config["optimizer.lr"] for run in server.runs.values()) == [0.01, 0.03]


@pytest.mark.slow
def test_training_goes_on_when_the_server_goes_away(folder: Path) -> None:
    command = [text for text in training("run", "trainer.max_epochs=60") if text != "logger=csv"]
    server = WandbServer()
    with server.serving() as env:
        begun = start(folder, [*command, "logger.wandb.finish_timeout=1"], env={**without_wandb(folder), **env})
        wait_until(lambda: any(validations(run) for run in server.runs.values()), "a validation")
    ended = begun.wait()
    assert ended.code == 0, ended.output
    assert "lx sync run" in ended.output
    assert result(folder / "run")["status"] == "finished"


def test_a_sweep_of_lx_inside_an_agent_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lx.errors import LxError
    from lx.sweep.commands import run_sweep

    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep001")
    with pytest.raises(LxError, match="leave -m out"):
        run_sweep(["model=tiny,small"])
