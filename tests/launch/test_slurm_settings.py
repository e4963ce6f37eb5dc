"""What Slurm is asked for, and what is refused before it is asked; jobs themselves are in tests/slurm."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

import lx
from lx.config.compose import resolved
from lx.errors import LxError
from lx.launch.local import launch
from lx.launch.slurm import _exit_code, _outside_of_any_job, _parameters
from lx.launch.slurm_node import Job, _go_on_later, _Requests
from lx.run.directory import Result, RunDirectory


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hardware.time=0", "hardware.time must be at least 1 minute"),
        ("hardware.time=1h", "hardware.time must be a whole number"),
        ("hardware.grace=0", "hardware.grace must be at least 1 second"),
        ("hardware.grace=3600", "hardware.grace=3600 seconds leave nothing of hardware.time=60 minutes"),
        ("hardware.devices=auto", "Slurm must be told how many"),
        ("hardware.submit=pbs", "hardware.submit must be slurm"),
        ("hardware.cpus_per_task=0", "hardware.cpus_per_task must be at least 1"),
        ("hardware.mem=-1", "hardware.mem must be 0 or more"),
        ("hardware.gpus=0", "hardware.gpus must be at least 1"),
        ("hardware.partition=7", "hardware.partition must be text or null"),
        ("hardware.wait=1", "hardware.wait must be true or false"),
        ("hardware.extra=fast", "hardware.extra must be options of sbatch"),
        ("hardware.extra={cpus-per-task: 3}", "hardware.extra.cpus-per-task: say hardware.cpus_per_task=... instead"),
        ("hardware.extra={nodes: 3}", "hardware.extra.nodes: say hardware.num_nodes=... instead"),
        ("hardware.extra={output: log}", "hardware.extra.output: lx sets this itself"),
        ("hardware.extra={nice: [1]}", "hardware.extra.nice must be text"),
        ("hardware.partitoin=a", "did you mean 'hardware.partition'"),
    ],
)
def test_a_bad_setting_is_refused(override: str, message: str) -> None:
    with pytest.raises(LxError) as error:
        lx.compose(["hardware=slurm", override])
    assert message in str(error.value)


def parameters(*overrides: str) -> dict[str, object]:
    return _parameters(resolved(lx.compose(["hardware=slurm", *overrides])))


def test_one_task_on_each_node_with_a_gpu_and_a_core_for_each_process() -> None:
    asked = parameters("hardware.devices=4", "hardware.num_nodes=2", "hardware.num_workers=2", "name=big")
    assert asked["nodes"] == 2
    assert asked["ntasks_per_node"] == 1
    assert asked["gpus_per_node"] == 4
    assert asked["cpus_per_task"] == 4 * (1 + 2)
    assert asked["job_name"] == "big"
    assert asked["additional_parameters"] == {"requeue": True, "signal": "USR1@120"}


def test_cores_follow_the_threads_and_no_gpu_is_asked_for_the_cpu() -> None:
    asked = parameters("hardware.accelerator=cpu", "hardware.devices=2", "hardware.threads=3")
    assert asked["cpus_per_task"] == 6
    assert asked["gpus_per_node"] is None


def test_what_is_said_is_passed_on() -> None:
    overrides = ["partition=a", "account=b", "qos=c", "constraint=d", "time=90", "grace=60", "mem=0", "gpus=a100:2"]
    asked = parameters(
        *(f"hardware.{override}" for override in overrides),
        "hardware.extra={reservation: course, exclusive: true, contiguous: false}",
    )
    assert [asked[name] for name in ("partition", "account", "qos", "constraint", "time")] == ["a", "b", "c", "d", 90]
    assert asked["gpus_per_node"] == "a100:2"
    others = {"requeue": True, "signal": "USR1@60", "mem": 0, "reservation": "course", "exclusive": True}
    assert asked["additional_parameters"] == others


def commands(folder: Path, **scripts: str) -> str:
    """A folder of commands that stand for Slurm's."""
    folder.mkdir()
    for name, script in scripts.items():
        file = folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IEXEC)
    return str(folder)


def test_without_slurm_or_submitit_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = lx.compose(["hardware=slurm", f"run_dir={tmp_path / 'run'}"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LxError, match="no command sbatch: is Slurm installed here"):
        launch(cfg)
    monkeypatch.setenv("PATH", commands(tmp_path / "bin", sbatch="", srun="", scontrol=""))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(LxError, match=r"pip install 'lx\[slurm\]'"):
        launch(cfg)
    assert not (tmp_path / "run").exists()


def test_a_job_that_is_submitted_from_within_another_inherits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CONF", "/here")
    with _outside_of_any_job():
        assert "SLURM_JOB_ID" not in os.environ
        assert os.environ["SLURM_CONF"] == "/here"
    assert os.environ["SLURM_JOB_ID"] == "1"


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("pruned", 0), ("stopped", 143), ("failed", 1)])
def test_the_exit_code_is_that_of_the_run(tmp_path: Path, status: str, code: int) -> None:
    run = RunDirectory(tmp_path)
    run.write_result(Result(status))
    assert _exit_code(run, {"ExitCode": "7:0"}) == code


@pytest.mark.parametrize(
    ("facts", "code"), [({"ExitCode": "2:0"}, 2), ({"ExitCode": "0:15"}, 1), ({}, 1), ({"ExitCode": "0:0"}, 1)]
)
def test_without_a_result_it_is_that_of_the_job(tmp_path: Path, facts: dict[str, str], code: int) -> None:
    assert _exit_code(RunDirectory(tmp_path), facts) == code


@pytest.fixture
def requests() -> _Requests:
    requests = object.__new__(_Requests)  # without its signal handlers
    requests.received = set()
    return requests


JOB = Job(id=5, starts=1, node=0, num_nodes=1)


@pytest.mark.parametrize(
    ("received", "facts", "requeues"),
    [
        (10, "JobState=RUNNING PreemptTime=None", True),  # the time is running out
        (10, "JobState=CANCELLED PreemptTime=None", False),  # and then somebody cancelled it
        (15, "JobState=RUNNING PreemptTime=None", False),  # somebody stopped the run
        (15, "JobState=RUNNING PreemptTime=2026-01-01T00:00:00", True),  # a more urgent job came
        (15, "JobState=PENDING PreemptTime=None", False),  # somebody requeued it
    ],
)
def test_a_job_is_requeued_for_want_of_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: _Requests, received: int, facts: str, requeues: bool
) -> None:
    script = f'if [ "$1" = requeue ]; then echo "$2" > {tmp_path}/requeued; else echo "JobId=5 {facts} Priority=1"; fi'
    monkeypatch.setenv("PATH", commands(tmp_path / "bin", scontrol=script) + os.pathsep + os.environ["PATH"])
    requests.received.add(received)
    assert _go_on_later(RunDirectory(tmp_path), JOB, requests) == 143
    assert (tmp_path / "requeued").exists() == requeues


def test_a_job_that_never_gets_to_a_checkpoint_is_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: _Requests
) -> None:
    path = commands(tmp_path / "bin", scontrol="echo JobState=RUNNING")
    monkeypatch.setenv("PATH", path + os.pathsep + os.environ["PATH"])
    requests.received.add(10)
    with pytest.raises(LxError, match="stopped 3 times before the first checkpoint"):
        _go_on_later(RunDirectory(tmp_path), Job(id=5, starts=3, node=0, num_nodes=1), requests)


def test_a_place_is_read_from_slurms_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "2", "SLURM_NODEID": "1", "SLURM_JOB_NUM_NODES": "4"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert Job.from_environment() == Job(id=12, starts=3, node=1, num_nodes=4)
