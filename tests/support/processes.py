"""Real trainings in real processes, on a tiny corpus: what the tests of many ranks and of faults share.

A process that imports everything takes seconds to start, so tests that are not about the commands themselves fork
theirs from one that has done so: the commands and the worker run as they are, in processes of their own.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import multiprocessing
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

TOPICS = {"food": "bread onion soup butter", "music": "violin chord tempo melody", "space": "orbit rocket lunar comet"}
STEPS_PER_EPOCH = 7
PATIENCE_S = 120
_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(
    ["lx.cli.main", "lx.training.worker", "lx.launch.local", "lx.training.builders", "lx.inference.evaluate"]
)


def write_rows(path: Path, count: int, start: int = 0, repeat: int = 1) -> Path:
    """Rows of three classes, two of them rarer, no text twice, of several lengths."""
    names = sorted(TOPICS)
    with path.open("w", encoding="utf-8") as file:
        for i in range(start, start + count):
            label = names[(i % 7) % 3]
            words = (TOPICS[label].split() * 3)[i % 4 : i % 4 + 2 + i % 6] * repeat
            file.write(json.dumps({"text": " ".join([*words, f"n{i % 11}", f"n{i}"]), "label": label}) + "\n")
    return path


def write_corpus(folder: Path) -> Path:
    """Training, validation and test split: 7 batches of 8 an epoch, the last of which has 2 examples."""
    write_rows(folder / "train.jsonl", 50)
    write_rows(folder / "validation.jsonl", 23, start=50)
    write_rows(folder / "test.jsonl", 31, start=100)
    return folder


def training(run: Path | str, *overrides: str) -> list[str]:
    """``lx train`` of a tiny Transformer: no dropout, float32, a row of metrics for every step."""
    return [
        "train",
        *["data=files", "data.train=train.jsonl", "data.validation=validation.jsonl", "data.test=test.jsonl"],
        *["data.batch_size=8", "data.max_length=16"],
        *["tokenizer=word", "tokenizer.min_frequency=1", "model=tiny", "model.dim=8", "model.num_layers=1"],
        *["model.dropout=0", "model.token_dropout=0", "hardware=cpu", "hardware.precision=32-true", "logger=csv"],
        *["trainer.log_every_n_steps=1", "optimizer.lr=0.03", f"run_dir={run}"],
        *overrides,
    ]


def ranks(count: int, *more: str) -> list[str]:
    """Overrides for several ranks on the CPU."""
    return ["hardware=ddp_cpu", f"hardware.devices={count}", "hardware.precision=32-true", *more]


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int
    output: str
    seconds: float

    @property
    def messages(self) -> list[str]:
        """The lines that lx says when something ends a run."""
        return [line for line in self.output.splitlines() if line.startswith("lx: ")]


class Started:
    """A process that is under way; its standard output and error go into one file."""

    def __init__(self, process: subprocess.Popen[bytes] | BaseProcess, log: Path) -> None:
        self.process = process
        self.log = log
        self._since = time.monotonic()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def code(self) -> int | None:
        """How it ended; None: it has not."""
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE_S) -> Ended:
        if isinstance(self.process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        else:
            self.process.join(seconds)
        code = self.code
        output = self.log.read_text(errors="replace")
        if code is None:
            self.process.kill()
            self.process.wait() if isinstance(self.process, subprocess.Popen) else self.process.join()
            raise AssertionError(f"still running after {seconds} s; it has said:\n{output}")
        return Ended(code, output, time.monotonic() - self._since)


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    own = {"LX_CACHE": str(folder / "cache"), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, **(more or {})}


def start(
    folder: Path,
    arguments: Sequence[str],
    module: str = "lx",
    env: Mapping[str, str] | None = None,
    preexec: Callable[[], None] | None = None,
) -> Started:
    """A command in a process of its own, started as a user does."""
    log = _new_log(folder)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=environment(folder, env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=preexec,
        )
    return Started(process, log)


def lx(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
    """A command from its start to its end."""
    return start(folder, arguments, env=env).wait()


def fork(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Started:
    """The same without the seconds of imports: ``python -m lx``, or ``worker RUN`` for ``python -m lx.worker RUN``."""
    log = _new_log(folder)
    process = _forkserver.Process(target=_forked, args=(folder, log, environment(folder, env), arguments))
    process.start()
    return Started(process, log)


def _forked(folder: Path, log: Path, environment: Mapping[str, str], arguments: Sequence[str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with log.open("wb", buffering=0) as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if arguments[0] == "worker":
        from lx.training.worker import main

        sys.exit(main(arguments[1:]))
    from lx.cli.main import main as command

    inline = arguments[0] == "train" and not any(argument.startswith("launch=") for argument in arguments)
    sys.exit(command([*arguments, *(["launch=inline"] if inline else [])]))


def _new_log(folder: Path) -> Path:
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"{secrets.token_hex(4)}.txt"
    log.touch()  # a process may be killed before it has opened it
    return log


def train(folder: Path, run: str, *overrides: str, env: Mapping[str, str] | None = None) -> Ended:
    """Train in one forked process."""
    return fork(folder, *training(run, *overrides), env=env).wait()


def train_on_ranks(folder: Path, run: str, count: int, *overrides: str) -> None:
    """Train on forked ranks to the end."""
    prepare(folder, run, *ranks(count), *overrides)
    work(folder, run, count)


def prepare(folder: Path, run: str, *overrides: str) -> None:
    """Make a run directory for workers to come."""
    assert_done(fork(folder, *training(run, *overrides, "launch=prepare")).wait())


def work(folder: Path, run: str, count: int = 1) -> None:
    """Train, or go on, in a run directory that is there, to the end."""
    all_done(*workers(folder, run, count))


def workers(folder: Path, run: str, count: int = 1) -> list[Started]:
    """Forked ranks in a run directory that is there, told what torchrun tells them."""
    place = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        fork(folder, "worker", run, env={**place, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)
    ]


def interrupt(folder: Path, run: str, count: int, *overrides: str) -> None:
    """Train until one of the forked ranks gets SIGTERM in the midst of an epoch, but for the first."""
    prepare(folder, run, *(ranks(count) if count > 1 else []), *overrides)
    steps = STEPS_PER_EPOCH
    while steps % STEPS_PER_EPOCH == 0:
        started = workers(folder, run, count)
        wait_for_steps(folder / run, steps + 2)
        started[-1].send(signal.SIGTERM)
        for worker in started:
            ended = worker.wait()
            assert ended.code == 143, ended.output
        steps = len(losses(folder / run))


def assert_done(*ended: Ended) -> None:
    for end in ended:
        assert end.code == 0, end.output


def all_done(*started: Started) -> None:
    """Wait for processes that work together: where one has failed, the others may wait for it for ever."""

    def over() -> bool:
        codes = [process.code for process in started]
        return any(codes) or None not in codes

    with contextlib.suppress(AssertionError):
        wait_until(over, "processes")
    for process in sorted(started, key=lambda process: not process.code):  # one that failed says why
        assert_done(process.wait(0))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.005)


def wait_for_steps(run: Path, count: int) -> None:
    """Wait until a run has taken so many steps."""
    metrics = run / "metrics.csv"
    wait_until(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > count, f"{count} steps of {run}")


def rows(run: Path) -> list[dict[str, str]]:
    """``metrics.csv`` but for the column that is read off a clock."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in csv.DictReader(file)]


def losses(run: Path) -> dict[int, float]:
    """The training loss of each step."""
    return {int(row["step"]): float(row["train/loss"]) for row in rows(run) if row["train/loss"]}


def result(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    return content


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return weights


def processes_of(run: Path) -> dict[int, str]:
    """Process ids and command lines of a run: those that name it, and all that they started."""
    parents, lines, found = {}, {}, set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state == "Z":
                    continue
                parents[int(entry.name)] = int(parent)
                line = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                lines[int(entry.name)] = " ".join(line)
                if {run.name, str(run), f"run_dir={run.name}"} & set(line) and _works_in(entry, run.parent):
                    found.add(int(entry.name))
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: lines[pid] for pid in sorted(found)}


def _works_in(entry: Path, folder: Path) -> bool:
    return (entry / "cwd").readlink() == folder


def workers_of(run: Path) -> list[int]:
    """The process ids of the ranks of a run."""
    return [pid for pid, line in processes_of(run).items() if "lx.training.worker" in line]


def kill_all(run: Path) -> None:
    """SIGKILL for every process of a run."""
    for pid in processes_of(run):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_forked() -> None:
    """End every process that was forked."""
    for process in multiprocessing.active_children():
        process.kill()
        process.join()


def assert_nothing_left(run: Path, seconds: float = 10) -> None:
    """No process of a run is left, or will be in a moment."""
    deadline = time.monotonic() + seconds
    while left := processes_of(run):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)
