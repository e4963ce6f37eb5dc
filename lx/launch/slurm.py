"""Handing a run to Slurm, and following its job. What happens inside the job is in :mod:`lx.launch.slurm_node`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lx.errors import LxError
from lx.launch.slurm_node import WARNING, job_facts, slurm_dir, train_on_node
from lx.run.directory import RunDirectory

_FORGOTTEN = "FORGOTTEN"  # by Slurm, which keeps a job in mind for some minutes after its end
_OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"}
_OVER |= {"OUT_OF_MEMORY", _FORGOTTEN}
_LOOK_S = 0.5  # between looks at the log of a job that is followed
_LOOKS = 6  # from one question to Slurm to the next
_EXIT_CODES = {"finished": 0, "pruned": 0, "stopped": 143}  # of the states in result.json; of others 1
# A warning that comes before Python has a handler for it must not end the job.
_PYTHON = f"""sh -c 'trap "" {WARNING.name.removeprefix("SIG")}; exec "$0" "$@"' {shlex.quote(sys.executable)}"""


def submit(run: RunDirectory, config: dict[str, Any]) -> int:
    """Hand a run to Slurm; with ``hardware.wait`` follow it to its end.

    Args:
        run: its directory, which the nodes of the cluster share.
        config: its configuration.

    Returns:
        The exit code of the run; 0 if it was only submitted.

    Raises:
        LxError: Slurm or submitit is missing, the run has a job already, or Slurm refuses this one. Nothing is left
            then of a run that was new.
    """
    is_new = not (run.model.exists() or slurm_dir(run).exists())
    try:
        _require_slurm()
        _refuse_a_second_job(run)
        job, log = _submit(run, config)
    except LxError:
        if is_new:
            run.discard()
        raise
    print(f"job {job} is submitted: {run.path}\n  its log:      {log}", flush=True)
    if config["hardware"]["wait"]:
        return follow(job, log, run)
    print(f"  to follow:    tail -F {log}\n  its state:    squeue --job {job}\n  to cancel it: scancel {job}")
    return 0


def follow(job: int, log: Path, run: RunDirectory) -> int:
    """Print what a job says until it has ended, through all its starts.

    Args:
        job: its number.
        log: the file that it writes.
        run: what it trains.

    Returns:
        The exit code of the run; 130 if a person stops watching, which leaves the job alone.
    """
    seen, state, facts = 0, "", _facts(job)
    try:
        while facts.get("JobState") not in _OVER:
            if state != (state := facts.get("JobState", state)):
                print(f"lx: job {job}: {state.lower()}", file=sys.stderr)
            for _ in range(_LOOKS):
                seen += _print_from(log, seen)
                time.sleep(_LOOK_S)
            facts = _facts(job)
    except KeyboardInterrupt:
        print(f"\nlx: job {job} goes on, unwatched; to cancel it: scancel {job}", file=sys.stderr)
        return 130
    _print_from(log, seen)
    code = _exit_code(run, facts)
    if code != 0:
        print(f"lx: job {job}: {facts['JobState'].lower()}; to go on: lx resume {run.path}", file=sys.stderr)
    return code


def _require_slurm() -> None:
    if missing := next((name for name in ("sbatch", "srun", "scontrol") if shutil.which(name) is None), None):
        raise LxError(f"hardware=slurm: there is no command {missing}: is Slurm installed here?")
    if find_spec("submitit") is None:
        raise LxError("hardware=slurm needs the package submitit: pip install 'lx[slurm]'")


def _refuse_a_second_job(run: RunDirectory) -> None:
    """Two jobs of one run would only keep each other out."""
    folder = slurm_dir(run).resolve()
    for script in folder.glob("*_submission.sh"):
        number = int(script.name.partition("_")[0])
        try:
            facts = job_facts(number)
        except OSError as error:
            raise LxError(f"Slurm does not answer: {error}") from error
        if facts and facts["JobState"] not in _OVER and facts.get("Command", "").startswith(str(folder)):
            raise LxError(
                f"{run.path} has a job already: {number} ({facts['JobState']}); to follow it: tail -F "
                f"{folder}/{number}_0_log.out; to cancel it: scancel {number}"
            )


def _submit(run: RunDirectory, config: dict[str, Any]) -> tuple[int, Path]:
    """Submit a run; the job's number and its log."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    folder = slurm_dir(run).resolve()
    before = set(folder.glob("*"))
    executor = SlurmExecutor(folder, python=_PYTHON)
    executor.update_parameters(**_parameters(config))
    ended = run.result.read_bytes() if run.result.exists() else None
    run.result.unlink(missing_ok=True)  # how it ended before is not how this job ends
    try:
        with _outside_of_any_job():
            job = executor.submit(train_on_node, str(run.path.resolve()))
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        for left in set(folder.glob("*")) - before:
            left.unlink()
        with suppress(OSError):  # there were jobs before
            folder.rmdir()
        if ended is not None:
            run.result.write_bytes(ended)
        raise LxError(f"Slurm refuses the job: {str(error).strip()}") from error
    return int(job.job_id), job.paths.stdout


def _parameters(config: dict[str, Any]) -> dict[str, Any]:
    """What submitit is told of a run's job."""
    hardware = config["hardware"]
    devices, threads = hardware["devices"], hardware["threads"] or 1
    cpus = hardware["cpus_per_task"] or devices * (threads + hardware["num_workers"])
    has_gpus = hardware["accelerator"] not in ("cpu", "auto")
    others = {
        "requeue": True,
        "signal": f"{WARNING.name.removeprefix('SIG')}@{hardware['grace']}",
        "mem": hardware["mem"],
        **(hardware["extra"] or {}),
    }
    return {
        "job_name": config["name"],
        **{name: hardware[name] for name in ("partition", "account", "qos", "time", "constraint")},
        "nodes": hardware["num_nodes"],
        "ntasks_per_node": 1,
        "cpus_per_task": cpus,
        "gpus_per_node": hardware["gpus"] or (devices if has_gpus else None),
        "wckey": None,  # submitit's own name, which a cluster that checks these would not know
        "stderr_to_stdout": True,
        # srun takes the number of cores from its own command line alone; a node that fails ends the others.
        "srun_args": [f"--cpus-per-task={cpus}", "--kill-on-bad-exit=1"],
        "additional_parameters": {
            name: value for name, value in others.items() if value is not None and value is not False
        },
    }


@contextmanager
def _outside_of_any_job() -> Iterator[None]:
    """Submit as if not from within a job, whose own settings the new one would inherit."""
    inside = [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]
    kept = {name: os.environ.pop(name) for name in inside}
    try:
        yield
    finally:
        os.environ.update(kept)


def _facts(job: int) -> dict[str, str]:
    """What Slurm says of a job; nothing while it is too busy to answer."""
    try:
        facts = job_facts(job)
    except OSError:
        return {}
    return {"JobState": _FORGOTTEN} if facts is None else facts


def _print_from(log: Path, seen: int) -> int:
    """Print what a file holds behind its first bytes; how much that is."""
    if not log.exists():
        return 0
    with log.open("rb") as file:
        file.seek(seen)
        new = file.read()
    sys.stdout.buffer.write(new)
    sys.stdout.flush()
    return len(new)


def _exit_code(run: RunDirectory, facts: dict[str, str]) -> int:
    if run.result.exists():
        return _EXIT_CODES.get(run.read_result().status, 1)
    return int(facts.get("ExitCode", "1:0").partition(":")[0]) or 1  # refused, or ended before it began
