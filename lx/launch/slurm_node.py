"""What Slurm starts on each node of a job: lx's launcher there, stopped in time, and put back into the queue.

Slurm tells a job with SIGUSR1 that its time is running out, or that a more urgent one wants its nodes; with SIGTERM
that it ends now: by ``scancel``, by ``scontrol requeue``, or at its time limit. Either way the run saves and stops. A
job that would go on if it had the time is then requeued; it starts here again, and the run goes on where it was saved.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lx.errors import LxError
from lx.launch.local import worker_command
from lx.run.directory import Result, RunDirectory
from lx.system.files import atomic_write
from lx.system.processes import ENDPOINT, child_environment, name_of_signal, tell
from lx.system.signals import EXIT_CODES

WARNING = signal.SIGUSR1
_STOPPED = (EXIT_CODES[signal.SIGTERM], -signal.SIGTERM)  # the latter: it had not begun to listen
_FRUITLESS_STARTS = 3  # after so many without a single checkpoint, the next would be no better
_QUESTIONS = 10  # to a Slurm that does not answer
_MEETING_S = 300.0
# A place in a step means nothing to the processes that a task starts, and would mislead the libraries that look for it.
_SCRUBBED = re.compile(r"SUBMITIT_|SLURM_(NTASKS|NPROCS|PROCID|LOCALID|NODEID|GTIDS|TASK|STEP)")


@dataclass(frozen=True)
class Job:
    """A Slurm job, as one of its nodes sees it.

    Attributes:
        id: its number.
        starts: how often it has started, this time included.
        node: which of its nodes this is, from 0.
        num_nodes: how many it has.
    """

    id: int
    starts: int
    node: int
    num_nodes: int

    @classmethod
    def from_environment(cls) -> Job:
        """The job that this process belongs to."""
        values = (
            ("SLURM_JOB_ID", ""),
            ("SLURM_RESTART_COUNT", "0"),
            ("SLURM_NODEID", "0"),
            ("SLURM_JOB_NUM_NODES", "1"),
        )
        number, restarts, node, num_nodes = (int(os.environ.get(name, default)) for name, default in values)
        return cls(number, restarts + 1, node, num_nodes)

    def facts(self) -> dict[str, str]:
        """What Slurm says of it.

        Raises:
            LxError: Slurm has not answered for a while.
        """
        for _ in range(_QUESTIONS):
            try:
                return job_facts(self.id) or {}
            except OSError as error:
                silence = error
                time.sleep(2)
        raise LxError(f"Slurm does not answer: {silence}")

    def requeue(self) -> None:
        """Have Slurm end this job and start it again later.

        Raises:
            LxError: Slurm will not.
        """
        done = subprocess.run(["scontrol", "requeue", str(self.id)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LxError(f"Slurm does not requeue the job: {done.stderr.strip()}")


def job_facts(number: int) -> dict[str, str] | None:
    """What Slurm says of a job, such as its ``JobState``.

    Returns:
        Names and values; None: Slurm has forgotten the job, some time after its end.

    Raises:
        OSError: Slurm does not answer.
    """
    command = ["scontrol", "--oneliner", "show", "job", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return dict(re.findall(r"(\w+)=(\S*)", done.stdout))
    if "Invalid job id" in done.stdout + done.stderr:
        return None
    raise OSError(done.stderr.strip())


def train_on_node(run_dir: str) -> NoReturn:
    """Train a run on this node of a Slurm job; the process ends with the exit code that Slurm is to know.

    Args:
        run_dir: absolute path of the run directory, which the job's nodes share.
    """
    requests = _Requests()
    try:
        sys.exit(_train(RunDirectory(Path(run_dir)), Job.from_environment(), requests))
    except LxError as error:
        sys.exit(tell(f"error: {error}", error.exit_code))


class _Requests:
    """The signals that came: none acts by itself, since the launcher must be told first."""

    def __init__(self) -> None:
        self.received: set[int] = set()
        for number in (WARNING, signal.SIGTERM):
            signal.signal(number, self._note)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.add(number)


def _train(run: RunDirectory, job: Job, requests: _Requests) -> int:
    if job.starts > 1 and run.result.exists() and run.read_result().status == "finished":
        print(f"lx: {run.path} has finished: nothing to do")
        return 0
    endpoint = _meeting_point(run, job, requests) if job.num_nodes > 1 else None
    code = _run_launcher(worker_command(run, run.read_config()), endpoint, requests)
    if requests.received and code in _STOPPED:
        return _go_on_later(run, job, requests) if job.node == 0 else 0  # an error here would have Slurm end all nodes
    if code < 0:
        error = f"the process that trains was killed by {name_of_signal(code)}; to go on: lx resume {run.path}"
        run.write_result(Result("failed", str(run.path), error=error))
        return tell(f"error: {error}", 1)
    return code


def _run_launcher(command: list[str], endpoint: str | None, requests: _Requests) -> int:
    """Run lx's launcher to its end, handing on the first request to stop; its exit code."""
    environment = {name: value for name, value in child_environment().items() if not _SCRUBBED.match(name)}
    if endpoint is not None:
        environment[ENDPOINT] = endpoint
    launcher = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_ignore_warning,
    )
    told = False
    while (code := launcher.poll()) is None:
        if requests.received and not told:
            launcher.terminate()
            told = True
        time.sleep(0.1)
    return code


def _ignore_warning() -> None:
    """Some clusters send it to all processes of a job: those that are started here leave it to this one."""
    signal.signal(WARNING, signal.SIG_IGN)


def _go_on_later(run: RunDirectory, job: Job, requests: _Requests) -> int:
    """Requeue the job of a run that has stopped, unless whoever stopped it sees to that, or wants its end."""
    facts = job.facts()
    is_preempted = facts.get("PreemptTime", "None") != "None"
    if facts.get("JobState") != "RUNNING" or not (WARNING in requests.received or is_preempted):
        return EXIT_CODES[signal.SIGTERM]
    if not run.last.exists() and job.starts >= _FRUITLESS_STARTS:
        raise LxError(
            f"the job was stopped {job.starts} times before the first checkpoint: give it more time, "
            f"lx resume {run.path} hardware=slurm hardware.time=..."
        )
    job.requeue()
    print(f"lx: job {job.id} is back in the queue, and will go on from the last checkpoint", flush=True)
    return EXIT_CODES[signal.SIGTERM]


def _meeting_point(run: RunDirectory, job: Job, requests: _Requests) -> str:
    """HOST:PORT where the nodes meet: the first picks it, the others read it in the run directory."""
    file = slurm_dir(run) / f"{job.id}-{job.starts}.endpoint"
    if job.node == 0:
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
        with atomic_write(file) as temporary:
            temporary.write_text(f"{socket.gethostname()}:{port}", encoding="utf-8")
    deadline = time.monotonic() + _MEETING_S
    while not file.exists():
        if requests.received or time.monotonic() > deadline:
            raise LxError(f"the first node has not said in {file} where to meet")
        time.sleep(0.5)
    return file.read_text(encoding="utf-8")


def slurm_dir(run: RunDirectory) -> Path:
    """Where a run keeps what belongs to its jobs: their scripts and logs."""
    return run.path / "slurm"
