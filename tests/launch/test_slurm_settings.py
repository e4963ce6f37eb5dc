"""What Slurm is asked for, and what is refused before it is asked; jobs are in test_slurm_jobs and test_slurm."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import lx
from lx.config.compose import resolved
from lx.errors import LxError
from lx.launch.slurm import job_script
from lx.run.directory import RunDirectory


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hardware.time=0", "hardware.time must be at least 1 minute"),
        ("hardware.time=1h", "hardware.time must be a whole number"),
        ("hardware.grace=0", "hardware.grace must be at least 1 second"),
        ("hardware.grace=3600", "hardware.grace=3600 seconds leave nothing of hardware.time=60 minutes"),
        ("hardware.devices=auto", "Slurm needs the number to reserve"),
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


def options(*overrides: str) -> dict[str, str]:
    """The options in a run's job script, as sbatch reads them; empty: an option without a value."""
    script = job_script(RunDirectory(Path("runs/a")), resolved(lx.compose(["hardware=slurm", *overrides])))
    words = [shlex.split(line, comments=False)[1] for line in script.splitlines() if line.startswith("#SBATCH")]
    assert all(word.startswith("--") for word in words)
    return {word.removeprefix("--").partition("=")[0]: word.partition("=")[2] for word in words}


def test_one_task_on_each_node_with_a_gpu_and_a_core_for_each_process() -> None:
    folder = Path("runs/a/slurm").resolve()
    assert options("hardware.devices=4", "hardware.num_nodes=2", "hardware.num_workers=2", "name=a big one") == {
        "job-name": "a big one",
        "nodes": "2",
        "ntasks-per-node": "1",
        "gpus-per-node": "4",
        "cpus-per-task": str(4 * (1 + 2)),
        "time": "60",
        "requeue": "",
        "signal": "USR1@120",
        "output": f"{folder}/%j-0.log",
        "open-mode": "append",
        "chdir": str(Path.cwd()),
    }


def test_cores_follow_the_threads_and_no_gpu_is_asked_for_the_cpu() -> None:
    asked = options("hardware.accelerator=cpu", "hardware.devices=2", "hardware.threads=3")
    assert asked["cpus-per-task"] == "6"
    assert "gpus-per-node" not in asked


def test_what_is_said_is_passed_on() -> None:
    overrides = ["partition=a", "account=b", "qos=c", "constraint=d", "time=90", "grace=60", "mem=0", "gpus=a100:2"]
    asked = options(
        *(f"hardware.{override}" for override in overrides),
        "hardware.extra={reservation: course, exclusive: true, contiguous: false, mail-type: END, mail_user: me}",
    )
    assert [asked[name] for name in ("partition", "account", "qos", "constraint", "time")] == ["a", "b", "c", "d", "90"]
    assert (asked["gpus-per-node"], asked["signal"], asked["mem"]) == ("a100:2", "USR1@60", "0")
    assert (asked["reservation"], asked["mail-type"], asked["mail-user"]) == ("course", "END", "me")
    assert asked["exclusive"] == ""
    assert "contiguous" not in asked
