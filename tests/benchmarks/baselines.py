"""Other programs to measure lx against, each in a process of its own, so that none crowds the memory of another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from subprocess import PIPE
from typing import Any

from lx.bench.benchmark import Speed
from lx.errors import LxError
from lx.sweep.slots import visible_gpus


class SubprocessBaseline:
    """A program that works in rounds in a process of its own, and waits while others work.

    Args:
        name: of the program.
        command: starts the process, which calls :func:`serve`.
        settings: for the process, plain data.
        log: a file for whatever it prints.
    """

    def __init__(self, name: str, command: Sequence[str], settings: object, log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("w") as output:
            first_gpu = ",".join(visible_gpus()[:1])  # some programs take all that they see
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": first_gpu}
            self._process = subprocess.Popen(
                command, stdin=PIPE, stdout=PIPE, stderr=output, text=True, env=environment
            )
        self._send(settings)
        self._receive()  # its preparation would disturb the others

    def run(self, warmup: int, steps: int) -> Speed:
        """Let it work for a round.

        Raises:
            LxError: it ended instead.
        """
        self._send([warmup, steps])
        return Speed(**self._receive())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which the missing answer will show
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        output = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it printed nothing"]
        code = self._process.wait()
        self.close()
        raise LxError(f"{self.name} ended with exit code {code}: {output[-1]}")


def serve(prepare: Callable[[Any], Callable[[int, int], Speed]]) -> None:
    """Work in rounds for the :class:`SubprocessBaseline` that started this process.

    Args:
        prepare: takes the settings and returns the function that works for a round: warmup and steps to its speed.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    run = prepare(json.loads(sys.stdin.readline()))
    print("{}", file=answers, flush=True)  # ready
    for line in sys.stdin:
        print(json.dumps(asdict(run(*json.loads(line)))), file=answers, flush=True)
