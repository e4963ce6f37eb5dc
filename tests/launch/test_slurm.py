"""Jobs of a real Slurm cluster, such as ``.ci/slurm start DIR`` makes on one machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import commands
from support.corpus import write_rows
from support.run_files import assert_same_weights, final_weights, has_finished, result
from support.slurm_cluster import SECONDS, is_training, processes_in, queue, resumed_after, slurm, state, until

pytestmark = pytest.mark.slurm
CPU = ["hardware=slurm", "hardware.accelerator=cpu"]
SUPPORT = str(Path(commands.__file__).parent)


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """A cluster that answers."""
    if shutil.which("sinfo") is None:
        pytest.skip("Slurm is not installed here")
    answer = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False, timeout=60)
    if answer.returncode:
        pytest.skip(f"no Slurm cluster answers: {answer.stderr.strip()}; .ci/slurm start DIR makes one")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with train.jsonl and test.jsonl."""
    place = tmp_path_factory.mktemp("place")
    write_rows(place / "train.jsonl", 160)
    write_rows(place / "test.jsonl", 30, start=1000)
    return place


@pytest.fixture(autouse=True)
def nothing_is_left(place: Path) -> Iterator[None]:
    """After each test no process works in the directory, and no job is in the queue."""
    yield
    until(lambda: not queue(), "the queue is empty")
    until(lambda: not processes_in(place), "no process is left")


def lx(place: Path, *arguments: str, slow: float = 0.0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that finds the model that sleeps so many seconds in each step."""
    env = {"PYTHONPATH": SUPPORT, "SLOW": str(slow), **variables}
    return commands.lx(place, *arguments, env=env, timeout=2 * SECONDS)


def training(name: str, *overrides: str) -> list[str]:
    """A training of 190 steps."""
    small = "model=tiny model._target_=slow.SlowClassifier model.dim=8 model.num_heads=2 model.num_layers=1"
    data = "data=files data.train=train.jsonl data.test=test.jsonl data.batch_size=8 data.max_length=16"
    others = "tokenizer=word trainer.max_epochs=10 logger=none hardware.precision=32-true hardware.threads=1"
    return ["train", f"run_dir={name}", *data.split(), *small.split(), *others.split(), *overrides]


def submit(place: Path, name: str, *overrides: str, slow: float) -> int:
    """Submit a training that sleeps so many seconds in each step; the number of its job."""
    done = lx(place, *training(name, *CPU, *overrides), slow=slow)
    assert done.returncode == 0, done.stderr
    submitted = re.search(r"job (\d+) is submitted", done.stdout)
    assert submitted, done.stdout
    return int(submitted[1])


@pytest.fixture(scope="module")
def uninterrupted(place: Path) -> Path:
    """The same training on one process, without Slurm."""
    done = lx(place, *training("uninterrupted", "hardware=cpu"))
    assert done.returncode == 0, done.stderr
    assert result(place / "uninterrupted")["steps"] == 190
    return place / "uninterrupted"


def test_a_job_that_is_waited_for(place: Path, uninterrupted: Path) -> None:
    done = lx(place, *training("waited", *CPU, "hardware.wait=true"))
    assert done.returncode == 0, done.stderr
    assert "test/accuracy" in done.stdout  # the job's log
    assert result(place / "waited")["status"] == "finished"
    assert_same_weights(place / "waited", uninterrupted)


def test_a_run_that_fails_is_told(place: Path) -> None:
    done = lx(place, *training("refused", *CPU, "hardware.wait=true", "data.test=missing.jsonl"))
    assert done.returncode == 2, done.stdout
    assert "missing.jsonl" in done.stdout
    assert not (place / "refused" / "config.yaml").exists()


def test_two_nodes_train_together(place: Path, uninterrupted: Path) -> None:
    overrides = ["hardware.num_nodes=2", "hardware.wait=true"]
    done = lx(place, *training("nodes", *CPU, *overrides))
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(place / "nodes")["status"] == "finished"
    assert "2 x 1 thread" in done.stdout
    assert len(list((place / "nodes" / "slurm").glob("*-1.log"))) == 1
    assert len(final_weights(place / "nodes")) == len(final_weights(uninterrupted))


def test_a_requeued_job_goes_on_to_the_same_weights(place: Path, uninterrupted: Path) -> None:
    run = place / "requeued"
    job = submit(place, "requeued", slow=0.05)
    until(lambda: is_training(run), "training")
    slurm("scontrol", "requeue", str(job))
    until(lambda: has_finished(run), "finished")
    until(lambda: state(job)["JobState"] == "COMPLETED", "completed")
    assert state(job)["Restarts"] == "1"
    (step,) = resumed_after(run)
    assert 0 < step < 190
    assert_same_weights(run, uninterrupted)


def test_the_time_limit_saves_and_requeues(place: Path, uninterrupted: Path) -> None:
    run = place / "limited"
    job = submit(place, "limited", "hardware.time=1", "hardware.grace=10", slow=0.5)  # 90 seconds
    until(lambda: int(state(job)["Restarts"]) > 0, "requeued")
    until(lambda: has_finished(run), "finished")
    steps = resumed_after(run)
    assert steps
    assert all(0 < step < 190 for step in steps)
    assert_same_weights(run, uninterrupted)


def test_several_ranks_save_when_warned(place: Path) -> None:
    alone = lx(place, *training("two", "hardware=ddp_cpu", "hardware.threads=1"))
    assert alone.returncode == 0, alone.stderr
    run = place / "warned"
    job = submit(place, "warned", "hardware.devices=2", slow=0.05)
    until(lambda: is_training(run), "training")
    slurm("scancel", "--signal=USR1", str(job))
    until(lambda: has_finished(run), "finished")
    assert len(resumed_after(run)) == 1
    assert_same_weights(run, place / "two")


def test_two_nodes_save_when_warned(place: Path) -> None:
    run = place / "warned-nodes"
    job = submit(place, "warned-nodes", "hardware.num_nodes=2", slow=0.05)
    until(lambda: is_training(run), "training")
    slurm("scancel", "--signal=USR1", str(job))
    until(lambda: has_finished(run), "finished")
    assert len(resumed_after(run)) == 1
    assert_same_weights(run, place / "nodes")


def test_a_preempted_job_goes_on_later(place: Path, uninterrupted: Path) -> None:
    partitions = slurm("sinfo", "--noheader", "--format=%R").split()
    if "urgent" not in partitions:
        pytest.skip("this cluster has no partition named urgent that preempts others")
    run = place / "preempted"
    job = submit(place, "preempted", slow=0.05)
    until(lambda: is_training(run), "training")
    slurm("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    until(lambda: has_finished(run), "finished")
    assert int(state(job)["Restarts"]) == 1
    assert len(resumed_after(run)) == 1
    assert_same_weights(run, uninterrupted)


def test_a_cancelled_job_saves_and_stays_away(place: Path, uninterrupted: Path) -> None:
    run = place / "cancelled"
    job = submit(place, "cancelled", slow=0.05)
    until(lambda: is_training(run), "training")
    slurm("scancel", str(job))
    until(lambda: state(job)["JobState"] == "CANCELLED", "cancelled")
    assert result(run)["status"] == "stopped"
    assert state(job)["Restarts"] == "0"
    assert not queue()
    done = lx(place, "resume", "cancelled", "--trust", "slow")  # submits again
    assert done.returncode == 0, done.stderr
    again = lx(place, "resume", "cancelled", "--trust", "slow")
    assert again.returncode == 2
    assert "has a job already" in again.stderr
    until(lambda: has_finished(run), "finished")
    assert_same_weights(run, uninterrupted)


def test_nothing_is_done_twice(place: Path) -> None:
    run = place / "once"
    job = submit(place, "once", slow=0.0)
    until(lambda: state(job)["JobState"] == "COMPLETED", "completed")
    before = (run / "result.json").stat().st_mtime_ns
    slurm("scontrol", "requeue", str(job))
    until(lambda: state(job)["Restarts"] == "1" and state(job)["JobState"] == "COMPLETED", "completed again")
    assert "has ended: nothing to do" in (run / "slurm" / f"{job}-0.log").read_text()
    assert (run / "result.json").stat().st_mtime_ns == before


def test_an_interrupt_leaves_the_job_alone(place: Path) -> None:
    run = place / "unwatched"
    command = [sys.executable, "-c", _INTERRUPTED, *training("unwatched", *CPU, "hardware.wait=true")]
    environment = commands.environment(place, {"PYTHONPATH": SUPPORT})
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert "scancel" in done.stderr
    until(lambda: has_finished(run), "finished")


_INTERRUPTED = """
import os, pathlib, signal, sys, threading, time
from lx.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is behind & deaf to it
def interrupt():
    while not any(pathlib.Path("unwatched/slurm").glob("*-0.log")):
        time.sleep(0.1)
    time.sleep(2)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hardware.partition=nowhere"], "invalid partition"),
        (["hardware.mem=9999T"], "Slurm refuses the job"),
        (["hardware.constraint=unheard-of"], "Slurm refuses the job"),
        (["hardware.extra={not-an-option: 1}"], "Slurm refuses the job"),
    ],
)
def test_what_slurm_refuses_leaves_nothing(place: Path, overrides: list[str], message: str) -> None:
    done = lx(place, *training("bad", *CPU, *overrides))
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "bad").exists()


def test_without_slurm(place: Path) -> None:
    done = lx(place, *training("bad", *CPU), PATH="/nonexistent")
    assert done.returncode == 2
    assert "is Slurm installed here?" in done.stderr
    assert not (place / "bad").exists()
