"""Slurm's jobs by commands that stand for Slurm's: submitted, followed, requeued; real ones are in test_slurm."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import lx
from lx.config.compose import resolved
from lx.errors import LxError
from lx.launch.local import launch
from lx.launch.slurm import follow, job_script, submit
from lx.launch.slurm_node import Job, StopRequests, requeue_if_preempted, result_of_job
from lx.run.directory import RunDirectory
from lx.run.ending import Reached, begin, record_end
from lx.run.result import Result


def commands(folder: Path, **scripts: str) -> str:
    """A folder of commands that stand for Slurm's."""
    folder.mkdir()
    for name, script in scripts.items():
        file = folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IEXEC)
    return str(folder)


def test_the_script_survives_names_that_a_shell_would_split(tmp_path: Path) -> None:
    """What the task is started with, by a shell and an srun that prints its arguments."""
    run = RunDirectory(tmp_path / "it's 100% a run")
    script = job_script(run, resolved(lx.compose(["hardware=slurm", "hardware.devices=2"])))
    path = commands(tmp_path / "bin", srun="""printf '%s\\n' "$@\"""") + os.pathsep + os.environ["PATH"]
    done = subprocess.run(["bash"], input=script, env={"PATH": path}, capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert {"--cpus-per-task=2", "--kill-on-bad-exit=1", "--open-mode=append"} <= set(words)
    assert f"--output={tmp_path}/it's 100%% a run/slurm/%j-%n.log" in words
    assert words[-5:] == [sys.executable, "-u", "-m", "lx.launch.slurm_node", str(run.path)]


def test_without_slurm_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = lx.compose(["hardware=slurm", f"run_dir={tmp_path / 'run'}"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LxError, match="no command sbatch: is Slurm installed here"):
        launch(cfg)
    assert not (tmp_path / "run").exists()


SLURM = {"sbatch": "env >&2; echo 17", "srun": "", "scontrol": "", "squeue": "", "scancel": ""}


def with_slurm(monkeypatch: pytest.MonkeyPatch, folder: Path, **scripts: str) -> None:
    path = commands(folder, **{**SLURM, **scripts})
    monkeypatch.setenv("PATH", path + os.pathsep + os.environ["PATH"])


def test_a_job_that_is_submitted_from_within_another_inherits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_slurm(monkeypatch, tmp_path / "bin", sbatch="env >&2; exit 1")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CONF", "/here")
    with pytest.raises(LxError) as refusal:
        launch(lx.compose(["hardware=slurm", f"run_dir={tmp_path / 'run'}"]))
    environment = str(refusal.value).splitlines()
    assert "SLURM_CONF=/here" in environment
    assert not any(line.startswith("SLURM_JOB_ID=") for line in environment)
    assert os.environ["SLURM_JOB_ID"] == "1"


def test_a_submitted_run_holds_its_script_and_says_where_its_log_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_slurm(monkeypatch, tmp_path / "bin", sbatch="echo '17;cluster'")
    run, code = launch(lx.compose(["hardware=slurm", f"run_dir={tmp_path / 'run'}"]))
    assert code == 0
    assert [path.name for path in (run.path / "slurm").iterdir()] == ["job.sbatch"]
    said = capsys.readouterr().out
    assert "job 17 is submitted" in said
    assert str(run.path / "slurm" / "17-0.log") in said


def test_a_refused_submission_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that is resumed: how it ended before, and the script of the job before."""
    with_slurm(monkeypatch, tmp_path / "bin")
    run, _ = launch(lx.compose(["hardware=slurm", f"run_dir={tmp_path / 'run'}"]))
    run.write_result(Result("stopped"))
    script = run.path / "slurm" / "job.sbatch"
    before = (run.result.read_bytes(), script.read_bytes())
    with_slurm(monkeypatch, tmp_path / "refusing", sbatch="echo no >&2; exit 1")
    with pytest.raises(LxError, match="Slurm refuses the job: no"):
        submit(run, {**run.read_config(), "name": "other"})
    assert (run.result.read_bytes(), script.read_bytes()) == before


def test_a_job_that_never_starts_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the run ended before stays, and is not taken for how the job ends."""
    with_slurm(monkeypatch, tmp_path / "bin", sbatch="echo 17", scontrol="echo JobState=CANCELLED ExitCode=0:15")
    run, _ = launch(lx.compose(["hardware=slurm", f"run_dir={tmp_path / 'run'}"]))
    run.write_result(Result("finished", metrics={"test/accuracy": 0.9}))
    before = run.result.read_bytes()
    assert result_of_job(run) is not None
    assert submit(run, run.read_config()) == 0
    assert run.result.read_bytes() == before
    assert result_of_job(run) is None
    assert follow(17, tmp_path / "log", run) == 1
    begin(run)
    assert result_of_job(run) is None
    record_end(run, "stopped", "stopped by SIGTERM", Reached(3))
    assert follow(17, tmp_path / "log", run) == 143


@pytest.mark.parametrize("script", ["job.sbatch", "12_submission.sh"])
def test_a_run_has_one_job(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether lx submitted it or its user did."""
    run, other = tmp_path / "run", tmp_path / "other"
    answer = f"echo '8|RUNNING|{other}/slurm/job.sbatch'; echo '9|PENDING|{run}/slurm/{script}'"
    with_slurm(monkeypatch, tmp_path / "bin", squeue=answer)
    with pytest.raises(LxError, match=r"has a job already: 9 \(PENDING\)"):
        launch(lx.compose(["hardware=slurm", f"run_dir={run}"]))
    assert not run.exists()


def test_slurm_that_does_not_answer_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_slurm(monkeypatch, tmp_path / "bin", squeue="echo no connection >&2; exit 1")
    with pytest.raises(LxError, match="Slurm does not answer: no connection"):
        launch(lx.compose(["hardware=slurm", f"run_dir={tmp_path / 'run'}"]))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("pruned", 0), ("stopped", 143), ("failed", 1)])
def test_the_exit_code_is_that_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, code: int
) -> None:
    with_slurm(monkeypatch, tmp_path / "bin", scontrol="echo JobState=FAILED ExitCode=7:0")
    run = RunDirectory(tmp_path)
    run.write_result(Result(status, error=None if code == 0 else "why"))
    assert follow(17, tmp_path / "log", run) == code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("echo JobState=FAILED ExitCode=2:0", 2),
        ("echo JobState=CANCELLED ExitCode=0:15", 1),
        ("echo JobState=COMPLETED ExitCode=0:0", 1),
        ("echo Invalid job id specified >&2; exit 1", 1),
    ],
)
def test_without_a_result_it_is_that_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    with_slurm(monkeypatch, tmp_path / "bin", scontrol=answer)
    assert follow(17, tmp_path / "log", RunDirectory(tmp_path)) == code


@pytest.fixture
def requests() -> StopRequests:
    requests = object.__new__(StopRequests)  # without its signal handlers
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: StopRequests, received: int, facts: str, requeues: bool
) -> None:
    script = f'if [ "$1" = requeue ]; then echo "$2" > {tmp_path}/requeued; else echo "JobId=5 {facts} Priority=1"; fi'
    monkeypatch.setenv("PATH", commands(tmp_path / "bin", scontrol=script) + os.pathsep + os.environ["PATH"])
    requests.received.add(received)
    assert requeue_if_preempted(RunDirectory(tmp_path), JOB, requests) == 143
    assert (tmp_path / "requeued").exists() == requeues


def test_a_job_that_never_gets_to_a_checkpoint_is_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: StopRequests
) -> None:
    path = commands(tmp_path / "bin", scontrol="echo JobState=RUNNING")
    monkeypatch.setenv("PATH", path + os.pathsep + os.environ["PATH"])
    requests.received.add(10)
    with pytest.raises(LxError, match="stopped 3 times before the first checkpoint"):
        requeue_if_preempted(RunDirectory(tmp_path), Job(id=5, starts=3, node=0, num_nodes=1), requests)


def test_a_place_is_read_from_slurms_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "2", "SLURM_NODEID": "1", "SLURM_JOB_NUM_NODES": "4"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert Job.from_environment() == Job(id=12, starts=3, node=1, num_nodes=4)
