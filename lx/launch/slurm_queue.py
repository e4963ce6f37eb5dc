"""Runs of a sweep as Slurm jobs, which one ``squeue`` watches together."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from lx.errors import LxError
from lx.launch.slurm import CODE_OF_STATUS, queued_jobs, require_slurm, submit_job
from lx.launch.slurm_node import job_facts, result_of_job, slurm_dir
from lx.run.directory import RunDirectory

_QUERY_S = 2.0  # between two questions to Slurm


class SlurmQueue:
    """The jobs of this user, as Slurm listed them last."""

    def __init__(self) -> None:
        require_slurm()
        self._jobs: dict[Path, tuple[int, str]] = {}
        self.asked = 0.0  # when Slurm answered last, on the monotonic clock

    def start(self, run: RunDirectory, config: dict[str, Any]) -> SlurmJob:
        """Submit a run, or adopt the job that it has: jobs go on when the sweep that started them is killed.

        Raises:
            LxError: Slurm does not answer, or refuses the job.
        """
        folder = slurm_dir(run).resolve()
        job = queued_jobs().get(folder)
        if job is not None:
            return SlurmJob(self, run, job[0])
        run.result.unlink(missing_ok=True)  # of an earlier attempt
        return SlurmJob(self, run, submit_job(run, config))

    def holds(self, job: SlurmJob) -> bool:
        """Return whether a job has not ended."""
        if time.monotonic() - self.asked >= _QUERY_S:
            try:
                asked, self._jobs = time.monotonic(), queued_jobs()
            except LxError:  # Slurm is too busy to answer
                return True
            self.asked = asked
        # A list from before the job was submitted cannot name it.
        return self.asked < job.since or any(number == job.number for number, _ in self._jobs.values())


class SlurmJob:
    """The job of a run, with the part of ``subprocess.Popen`` that a sweep needs.

    Attributes:
        number: of the job.
        since: when it was submitted or adopted, by the monotonic clock.
        log: what it prints, on its first node.
    """

    def __init__(self, queue: SlurmQueue, run: RunDirectory, number: int) -> None:
        self._queue = queue
        self._run = run
        self.number = number
        self.since = time.monotonic()
        self.log = slurm_dir(run) / f"{number}-0.log"

    def poll(self) -> int | None:
        """The exit code of the run; None while its job waits or runs. A job that vanished counts as killed."""
        if self._queue.holds(self):
            return None
        if (result := result_of_job(self._run)) is not None:
            return CODE_OF_STATUS.get(result.status, 1)
        try:
            facts = job_facts(self.number) or {}
        except OSError:
            return None
        code, _, number = facts.get("ExitCode", "0:0").partition(":")
        return int(code) or -(int(number) or signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal to the processes of a running job; cancel one that waits."""
        name = signal.Signals(number).name.removeprefix("SIG")
        for options in (["--state=PENDING"], ["--state=RUNNING", f"--signal={name}"]):
            subprocess.run(["scancel", "--quiet", *options, str(self.number)], check=False, capture_output=True)
