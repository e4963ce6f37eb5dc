"""Start the workers of single-process runs from a process that has imported everything.

``python -m lx.launch.forkserver`` is that process; :class:`ForkServer` speaks to it.

A run spends seconds on imports before its first step. This server imports what runs need once, and forks a process for
each run before any thread or device exists, so that runs stay as isolated as processes are.

It reads a JSON request a line on stdin, and answers on stdout with ``{"id", "pid"}`` when the process has begun and
``{"id", "code"}`` when it has ended, negative if a signal ended it.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from lx.system.gc import freeze_after_imports
from lx.system.output import flush_streams
from lx.system.processes import child_environment, end_with, end_with_parent, working_directory_last

_READ_BYTES = 1 << 16
_STOPPING = (signal.SIGINT, signal.SIGTERM)


def serve() -> int:
    """Answer requests until stdin is closed, then end the processes that still run."""
    end_with_parent()
    working_directory_last()
    with freeze_after_imports():
        import_module("pandas")  # pyarrow imports it when it hands out the first array
        from lx.training import worker
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only signals with a handler are written to the pipe
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)  # the parent ends this process by closing stdin
    children: dict[int, int] = {}
    pending = b""
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    os.write(answers, b"{}\n")
    while True:
        for key, _ in selector.select():
            data = os.read(key.fd, _READ_BYTES)
            if key.fd == wake_read:
                for message in _reap(children):
                    os.write(answers, message)
            elif data:
                *lines, pending = (pending + data).split(b"\n")
                for request in map(json.loads, lines):
                    pid = _fork(request, worker.main, [requests, answers, wake_read, wake_write])
                    children[pid] = request["id"]
                    os.write(answers, json.dumps({"id": request["id"], "pid": pid}).encode() + b"\n")
            else:  # stdin is closed
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                return 0


def _fork(request: Mapping[str, Any], train: Any, descriptors: list[int]) -> int:
    """Start the process of a run, which closes the server's descriptors; return its id."""
    _import_for(Path(request["run"]))
    # The worker inherits that these are ignored: until it has handlers, one that comes is kept pending, not lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    pid = os.fork()
    if pid == 0:
        os._exit(_run(request, train, descriptors))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    return pid


def _import_for(run: Path) -> None:
    """Import the modules of lx that a run's configuration names, and W&B if the run uses it."""
    try:
        modules = re.findall(r"_target_: (lx\.[\w.]+)\.\w+", (run / "config.yaml").read_text(encoding="utf-8"))
    except OSError:
        return  # the worker reports the missing file
    if "lx.tracking.wandb" in modules:
        modules += ["wandb", "wandb.sdk.launch"]  # W&B imports the latter at its first run
    if new := [name for name in modules if name not in sys.modules]:
        with freeze_after_imports(), suppress(ImportError):  # the worker reports what is wrong
            for name in new:
                import_module(name)


def _reap(children: dict[int, int]) -> Iterator[bytes]:
    """Yield an answer for each process that has ended, and remove it from ``children`` (process id to request id)."""
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            answer = {"id": children.pop(pid), "code": os.waitstatus_to_exitcode(status)}
            yield json.dumps(answer).encode() + b"\n"


def _run(request: Mapping[str, Any], train: Any, descriptors: list[int]) -> int:
    """Train in the forked process, without the server's ``descriptors``; return the exit code."""
    code = 1
    try:
        end_with(os.getppid())
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for target in (1, 2):
            os.dup2(output, target)
        for descriptor in (*descriptors, output):
            os.close(descriptor)
        os.environ.update(request["environment"])
        if request["cpus"] and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, request["cpus"])
        code = train([request["run"]])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        code = flush_streams(code)
    return code


class ForkServer:
    """Starts the server, and sends it requests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lx.launch.forkserver"],
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._pending = b""
        self._count = 0
        self._workers: dict[int, ForkedWorker] = {}

    def start(self, run: Path, output: Path, environment: Mapping[str, str], cpus: list[int]) -> ForkedWorker:
        """Start the worker of a run.

        Args:
            run: its directory.
            output: a file for what it prints.
            environment: variables to add.
            cpus: the cores that it may use; none: all.
        """
        self._count += 1
        request = {
            "id": self._count,
            "run": str(run),
            "output": str(output),
            "environment": dict(environment),
            "cpus": cpus,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        worker = self._workers[self._count] = ForkedWorker(self)
        return worker

    def listen(self) -> None:
        """Read the answers that have come, and pass them to their workers."""
        assert self._process.stdout is not None
        while data := self._process.stdout.read(_READ_BYTES):
            *lines, self._pending = (self._pending + data).split(b"\n")
            for answer in map(json.loads, lines):
                if worker := self._workers.get(answer.get("id", 0)):
                    worker.take_in(answer)
        if self._process.poll() is not None:
            for worker in self._workers.values():
                worker.code = -signal.SIGKILL if worker.code is None else worker.code

    def close(self) -> None:
        """End the server, and the workers that still run."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class ForkedWorker:
    """A worker that the server has forked, with the part of ``subprocess.Popen`` that the scheduler needs."""

    def __init__(self, server: ForkServer) -> None:
        self._server = server
        self._early_signal: int | None = None  # sent before the process had begun
        self.pid: int | None = None
        self.code: int | None = None

    def take_in(self, answer: Mapping[str, int]) -> None:
        """Note that the process has begun, or has ended."""
        self.code = answer.get("code", self.code)
        if "pid" in answer:
            self.pid = answer["pid"]
            if self._early_signal is not None:
                self._kill(self._early_signal)

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        self._server.listen()
        return self.code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process: now, or as soon as it has begun; not if it has ended."""
        self._server.listen()
        if self.pid is None:
            self._early_signal = number
        else:
            self._kill(number)

    def _kill(self, number: int) -> None:
        if self.pid is not None and self.code is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)


if __name__ == "__main__":
    sys.exit(serve())
