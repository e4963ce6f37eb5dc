"""Train a run on one node of a Slurm job: ``python -m lx.launch.slurm_node RUN``. Requeue the job if it was preempted.

Slurm sends SIGUSR1 when the time limit is near or a more urgent job takes the nodes; SIGTERM when the job ends now: by
``scancel``, by ``scontrol requeue``, or at its time limit. Either way the run saves and stops. After a time limit or a
preemption the job is requeued; it starts here again, and the run resumes where it was saved.
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

from lx.errors import LxError
from lx.launch.command import worker_command
from lx.run.directory import RunDirectory
from lx.run.ending import record_end
from lx.run.result import Result
from lx.system.files import atomic_write
from lx.system.output import say
from lx.system.processes import ENDPOINT, child_environment, name_of_signal, report_exit
from lx.system.signals import EXIT_CODES

WARNING = signal.SIGUSR1
_STOPPED = (EXIT_CODES[signal.SIGTERM], -signal.SIGTERM)  # the latter: stopped before it had a handler
_MAX_STARTS = 3  # without a single checkpoint
_MAX_QUERIES = 10  # to a Slurm that does not answer
_RENDEZVOUS_S = 300.0
# A task's position in its step is wrong for the processes that it starts, and libraries such as Lightning read it.
_TASK_VARIABLES = re.compile(r"SLURM_(NTASKS|NPROCS|PROCID|LOCALID|NODEID|GTIDS|TASK|STEP)")


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
        """Read the job of this process from Slurm's variables."""

        def number(name: str, default: str) -> int:
            return int(os.environ.get(f"SLURM_{name}", default))

        starts = number("RESTART_COUNT", "0") + 1
        return cls(number("JOB_ID", ""), starts, number("NODEID", "0"), number("JOB_NUM_NODES", "1"))

    def facts(self) -> dict[str, str]:
        """Return what Slurm says of it; see :func:`job_facts`.

        Raises:
            LxError: Slurm has not answered for a while.
        """
        for _ in range(_MAX_QUERIES):
            try:
                return job_facts(self.id) or {}
            except OSError as error:
                failure = error
                time.sleep(2)
        raise LxError(f"Slurm does not answer: {failure}")

    def requeue(self) -> None:
        """Put this job back into the queue, which ends it here.

        Raises:
            LxError: Slurm refuses.
        """
        done = subprocess.run(["scontrol", "requeue", str(self.id)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LxError(f"Slurm does not requeue the job: {done.stderr.strip()}")


def job_facts(number: int) -> dict[str, str] | None:
    """Return what Slurm says of a job, such as its ``JobState``.

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


def main() -> int:
    """Train the run that the command line names on this node; return the exit code."""
    requests = StopRequests()
    (path,) = sys.argv[1:]
    try:
        return _train(RunDirectory(Path(path)), Job.from_environment(), requests)
    except LxError as error:
        return report_exit(f"error: {error}", error.exit_code)


class StopRequests:
    """Records signals, so that none ends this process before it has stopped the launcher: see :func:`_run_launcher`."""

    def __init__(self) -> None:
        self.received: set[int] = set()
        for number in (WARNING, signal.SIGTERM):
            signal.signal(number, self._note)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.add(number)


def _train(run: RunDirectory, job: Job, requests: StopRequests) -> int:
    result = result_of_job(run)
    if result is not None and result.status in ("finished", "pruned", "paused"):
        say(f"lx: {run.path} has ended: nothing to do")
        return 0
    endpoint = _rendezvous(run, job, requests) if job.num_nodes > 1 else None
    code = _run_launcher(worker_command(run, run.next_config()), endpoint, requests)
    if requests.received and code in _STOPPED:
        return requeue_if_preempted(run, job, requests) if job.node == 0 else 0  # a failure here would end all nodes
    if code < 0:
        error = f"the process that trains was killed by {name_of_signal(code)}; to go on: lx resume {run.quoted}"
        record_end(run, "failed", error)
        return report_exit(f"error: {error}", 1)
    return code


def _run_launcher(command: list[str], endpoint: str | None, requests: StopRequests) -> int:
    """Run lx's launcher, forward the first request to stop, and return the exit code."""
    environment = {name: value for name, value in child_environment().items() if not _TASK_VARIABLES.match(name)}
    if endpoint is not None:
        environment[ENDPOINT] = endpoint
    launcher = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_ignore_warning
    )
    terminated = False
    while (code := launcher.poll()) is None:
        if requests.received and not terminated:
            launcher.terminate()
            terminated = True
        time.sleep(0.1)
    return code


def _ignore_warning() -> None:
    """Leave the warning to this process: some clusters send it to all processes of a job."""
    signal.signal(WARNING, signal.SIG_IGN)


def requeue_if_preempted(run: RunDirectory, job: Job, requests: StopRequests) -> int:
    """Requeue a stopped job after a time limit or preemption; not after ``scancel`` or ``scontrol requeue``.

    Returns:
        The exit code of a stopped run.

    Raises:
        LxError: the job never gets as far as a checkpoint, or Slurm refuses.
    """
    facts = job.facts()
    is_preempted = facts.get("PreemptTime", "None") != "None"
    if facts.get("JobState") != "RUNNING" or not (WARNING in requests.received or is_preempted):
        return EXIT_CODES[signal.SIGTERM]
    if not run.last.exists() and job.starts >= _MAX_STARTS:
        raise LxError(
            f"the job was stopped {job.starts} times before the first checkpoint: give it more time, "
            f"lx resume {run.quoted} hardware=slurm hardware.time=..."
        )
    job.requeue()
    say(f"lx: job {job.id} is back in the queue, and will go on from the last checkpoint")
    return EXIT_CODES[signal.SIGTERM]


def _rendezvous(run: RunDirectory, job: Job, requests: StopRequests) -> str:
    """Return HOST:PORT where the nodes meet: the first picks it, the others read it from the run directory."""
    file = slurm_dir(run) / f"{job.id}-{job.starts}.endpoint"
    if job.node == 0:
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
        with atomic_write(file) as temporary:
            temporary.write_text(f"{socket.gethostname()}:{port}", encoding="utf-8")
    deadline = time.monotonic() + _RENDEZVOUS_S
    while not file.exists():
        if requests.received or time.monotonic() > deadline:
            raise LxError(f"the first node has not said in {file} where to meet")
        time.sleep(0.5)
    return file.read_text(encoding="utf-8")


def slurm_dir(run: RunDirectory) -> Path:
    """Return the directory of a run's job script and logs."""
    return run.path / "slurm"


def earlier_result(run: RunDirectory) -> Path:
    """Return the path of a copy of the result that a run had when its job was submitted, if it had one."""
    return slurm_dir(run) / "earlier-result.json"


def result_of_job(run: RunDirectory) -> Result | None:
    """Return the result that a run's job has written; None if it has written none yet, or only that it has begun."""
    earlier = earlier_result(run)
    if not run.result.exists() or (earlier.exists() and earlier.read_bytes() == run.result.read_bytes()):
        return None
    result = run.read_result()
    return None if result.status == "stopped" and result.error is None else result


if __name__ == "__main__":
    sys.exit(main())
