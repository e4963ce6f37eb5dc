"""Commands and workers in processes of their own, without the seconds that imports take.

Tests that are not about the start of a command fork its process from one that has imported everything: the command and
the worker run as they are.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from support.commands import Ended, Started, environment, new_log, training

_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(
    ["lx.cli.main", "lx.training.worker", "lx.launch.local", "lx.training.builders", "lx.inference.evaluate"]
)


def fork(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Started:
    """Start ``python -m lx``, or for ``worker RUN`` what ``python -m lx.worker RUN`` starts."""
    log = new_log(folder)
    process = _forkserver.Process(target=_forked, args=(folder, log, environment(folder, env), arguments))
    process.start()
    return Started(process, log)


def train(folder: Path, run: str, *overrides: str, env: Mapping[str, str] | None = None) -> Ended:
    """Train in one forked process."""
    return fork(folder, *training(run, *overrides), env=env).wait()


def kill_forked() -> None:
    """End every process that was forked."""
    for process in multiprocessing.active_children():
        process.kill()
        process.join()


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
