"""lx in processes of its own, started as a user does."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from support.waiting import PATIENCE_S


def training(run: Path | str, *overrides: str) -> list[str]:
    """``lx train`` of a tiny Transformer: no dropout, float32, a row of metrics for every step."""
    return [
        "train",
        *["data=files", "data.train=train.jsonl", "data.validation=validation.jsonl", "data.test=test.jsonl"],
        *["recipe=plain", "data.batch_size=8", "data.max_length=16"],
        *["tokenizer=word", "tokenizer.min_frequency=1", "model=tiny", "model.dim=8", "model.num_layers=1"],
        *["model.dropout=0", "model.token_dropout=0", "hardware=cpu", "hardware.precision=32-true", "logger=csv"],
        *["trainer.log_every_n_steps=1", "optimizer.lr=0.03", f"run_dir={run}"],
        *overrides,
    ]


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """One thread, W&B offline, and a cache in the folder, unless ``more`` says otherwise."""
    own = {"LX_CACHE": str(folder / "cache"), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, **(more or {})}


def lx(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 300, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with standard output and error apart."""
    return subprocess.run(
        [sys.executable, "-m", "lx", *arguments],
        cwd=folder,
        env=environment(folder, env),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        **options,
    )


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote to standard output and error."""

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
        self._process = process
        self._log = log
        self._since = time.monotonic()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; None while it is running."""
        return self._process.poll() if isinstance(self._process, subprocess.Popen) else self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE_S) -> Ended:
        """Wait for its end; a process that is still running then is killed, and the test fails."""
        if isinstance(self._process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        else:
            self._process.join(seconds)
        code = self.code
        output = self._log.read_text(errors="replace")
        if code is None:
            self._process.kill()
            self._process.wait() if isinstance(self._process, subprocess.Popen) else self._process.join()
            raise AssertionError(f"still running after {seconds} s; its output:\n{output}")
        return Ended(code, output, time.monotonic() - self._since)


def start(
    folder: Path,
    arguments: Sequence[str],
    module: str = "lx",
    env: Mapping[str, str] | None = None,
    preexec: Callable[[], None] | None = None,
) -> Started:
    """Start ``python -m MODULE`` in a folder."""
    log = new_log(folder)
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


def new_log(folder: Path) -> Path:
    """Make the file for what a process writes: it may be killed before it opens one."""
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"{secrets.token_hex(4)}.txt"
    log.touch()
    return log


def assert_done(*ended: Ended) -> None:
    for end in ended:
        assert end.code == 0, end.output
