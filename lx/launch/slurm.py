"""Submit a run to Slurm and follow its job. What runs inside the job is :mod:`lx.launch.slurm_node`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lx.errors import LxError
from lx.launch.slurm_node import WARNING, earlier_result, job_facts, result_of_job, slurm_dir
from lx.run.directory import RunDirectory
from lx.system.files import link_or_copy
from lx.system.output import say
from lx.system.processes import SWEEP_STORAGE

_COMMANDS = ("sbatch", "srun", "scontrol", "squeue", "scancel")
_FORGOTTEN = "FORGOTTEN"  # Slurm remembers a job for some minutes after its end
_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"}
_ENDED |= {"OUT_OF_MEMORY", _FORGOTTEN}
_POLL_S = 0.5  # between two looks at the log of a followed job
_POLLS_PER_QUERY = 6  # looks at the log for each question to Slurm
CODE_OF_STATUS = {"finished": 0, "pruned": 0, "paused": 0, "stopped": 143}  # by status in result.json; others: 1

_WARNING_NAME = WARNING.name.removeprefix("SIG")

# The task's shell ignores the warning, and Python inherits that until it has a handler: otherwise a warning that comes
# before the handler would end the job.
_SCRIPT = """\
#!/bin/bash
# Trains the run in {run}, from where it was saved. Written by lx.
# To submit it again: sbatch {script}
{options}

# srun does not take the number of cores from the job. A node that fails ends the others.
srun --cpus-per-task={cpus} --kill-on-bad-exit=1 --unbuffered --open-mode=append --output={log} \\
    sh -c 'trap "" {warning}; exec "$0" "$@"' {python} -u -m lx.launch.slurm_node {run}
"""


def submit(run: RunDirectory, config: dict[str, Any]) -> int:
    """Submit a run, whose directory the nodes of the cluster share; with ``hardware.wait`` follow it to its end.

    Returns:
        The exit code of the run; 0 if it was only submitted.

    Raises:
        LxError: Slurm is missing, the run has a job already, or Slurm refuses this one. A new run leaves nothing behind
            then.
    """
    is_new = not (run.model.exists() or slurm_dir(run).exists())
    try:
        require_slurm()
        _refuse_second_job(run)
        job = submit_job(run, config)
    except LxError:
        if is_new:
            run.discard()
        raise
    log = slurm_dir(run).resolve() / f"{job}-0.log"
    say(f"job {job} is submitted: {run.path}\n  its log:      {log}")
    if config["hardware"]["wait"]:
        return follow(job, log, run)
    say(f"  to follow:    tail -F {log}\n  its state:    squeue --job {job}\n  to cancel it: scancel {job}")
    return 0


def follow(job: int, log: Path, run: RunDirectory) -> int:
    """Print the log of a job until it has ended, through all its restarts.

    Returns:
        The exit code of the run; 130 after Ctrl-C, which ends the watching and leaves the job alone.
    """
    seen, state, facts = 0, "", _facts(job)
    try:
        while facts.get("JobState") not in _ENDED:
            before, state = state, facts.get("JobState", state)
            if state != before:
                say(f"lx: job {job}: {state.lower()}", sys.stderr)
            for _ in range(_POLLS_PER_QUERY):
                seen += _print_from(log, seen)
                time.sleep(_POLL_S)
            facts = _facts(job)
    except KeyboardInterrupt:
        say(f"\nlx: job {job} goes on, unwatched; to cancel it: scancel {job}", sys.stderr)
        return 130
    _print_from(log, seen)
    code = _exit_code(run, facts)
    if code != 0:
        say(f"lx: job {job}: {facts['JobState'].lower()}; to go on: lx resume {run.quoted}", sys.stderr)
    return code


def require_slurm() -> None:
    """Refuse a machine without Slurm's commands.

    Raises:
        LxError: one is missing.
    """
    if missing := next((name for name in _COMMANDS if shutil.which(name) is None), None):
        raise LxError(f"hardware=slurm: there is no command {missing}: is Slurm installed here?")


def _refuse_second_job(run: RunDirectory) -> None:
    """Refuse a run that has a job in the queue: the two would lock each other out."""
    folder = slurm_dir(run).resolve()
    if job := queued_jobs().get(folder):
        number, state = job
        raise LxError(
            f"{run.path} has a job already: {number} ({state}); to follow it: tail -F {folder}/{number}-0.log; "
            f"to cancel it: scancel {number}"
        )


def queued_jobs() -> dict[Path, tuple[int, str]]:
    """Return number and state of this user's jobs in the queue, submitted by lx or by hand, by their script's folder.

    Raises:
        LxError: Slurm does not answer.
    """
    query = ["squeue", "--me", "--noheader", "--format=%A|%T|%o"]  # number, state, script
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LxError(f"Slurm does not answer: {done.stderr.strip()}")
    jobs = (line.split("|", 2) for line in done.stdout.splitlines())
    return {Path(script).parent: (int(number), state) for number, state, script in jobs}


def submit_job(run: RunDirectory, config: dict[str, Any]) -> int:
    """Write the job script of a run, submit it and return the job's number.

    Raises:
        LxError: Slurm refuses the job; everything is as before then.
    """
    folder = slurm_dir(run).resolve()
    script = folder / "job.sbatch"
    earlier = earlier_result(run)
    before = {path: path.read_bytes() if path.exists() else None for path in (script, earlier)}
    folder.mkdir(exist_ok=True)
    script.write_text(job_script(run, config), encoding="utf-8")
    earlier.unlink(missing_ok=True)
    if run.result.exists():  # so that result_of_job does not take it for this job's
        link_or_copy(run.result, earlier)
    done = subprocess.run(
        ["sbatch", "--parsable", str(script)], env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return int(done.stdout.partition(";")[0])  # a cluster's name may follow
    for path, content in before.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)
    with suppress(OSError):  # not empty: there were jobs before
        folder.rmdir()
    raise LxError(f"Slurm refuses the job: {done.stderr.strip()}")


def job_script(run: RunDirectory, config: dict[str, Any]) -> str:
    """Return the script that ``sbatch`` takes; it stands in the run directory, to be read and submitted again."""
    folder = slurm_dir(run).resolve()
    options = _options(config)
    log = str(folder).replace("%", "%%") + "/%j-"  # job and node
    options |= {"output": f"{log}0.log", "open-mode": "append"}
    lines = [f"#SBATCH --{name}" + ("" if value is True else f"={_quote(value)}") for name, value in options.items()]
    return _SCRIPT.format(
        run=_quote(run.path.resolve()),
        script=_quote(folder / "job.sbatch"),
        options="\n".join(lines),
        cpus=options["cpus-per-task"],
        log=_quote(f"{log}%n.log"),
        warning=_WARNING_NAME,
        python=_quote(sys.executable),
    )


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the settings of a run mean for ``sbatch``, by option; True: an option without a value."""
    hardware = config["hardware"]
    devices, threads = hardware["devices"], hardware["threads"] or 1
    has_gpus = hardware["accelerator"] not in ("cpu", "auto")
    options = {
        "job-name": config["name"],
        **{name: hardware[name] for name in ("partition", "account", "qos", "time", "constraint", "mem")},
        "nodes": hardware["num_nodes"],
        "ntasks-per-node": 1,
        "cpus-per-task": hardware["cpus_per_task"] or devices * (threads + hardware["num_workers"]),
        "gpus-per-node": hardware["gpus"] or (devices if has_gpus else None),
        "requeue": True,
        "signal": f"{_WARNING_NAME}@{hardware['grace']}",
        "chdir": Path.cwd(),  # paths of the configuration may be relative
        **{name.replace("_", "-"): value for name, value in (hardware["extra"] or {}).items()},
    }
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _quote(value: object) -> str:
    return shlex.quote(str(value))


def _environment() -> dict[str, str]:
    """Return the environment of a job: without variables of a Slurm job around this process, and without passwords."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or not (name.startswith("SLURM_") or name == SWEEP_STORAGE)
    }


def _facts(job: int) -> dict[str, str]:
    """Return what Slurm says of a job; nothing while it is too busy to answer."""
    try:
        facts = job_facts(job)
    except OSError:
        return {}
    return {"JobState": _FORGOTTEN} if facts is None else facts


def _print_from(log: Path, seen: int) -> int:
    """Print a file from byte ``seen`` on; return the number of bytes printed, 0 if there is no file yet."""
    if not log.exists():
        return 0
    with log.open("rb") as file:
        file.seek(seen)
        new = file.read()
    sys.stdout.buffer.write(new)
    sys.stdout.flush()
    return len(new)


def _exit_code(run: RunDirectory, facts: dict[str, str]) -> int:
    if (result := result_of_job(run)) is not None:
        return CODE_OF_STATUS.get(result.status, 1)
    return int(facts.get("ExitCode", "1:0").partition(":")[0]) or 1  # without a result even code 0 is a failure
