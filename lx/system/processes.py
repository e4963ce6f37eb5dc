"""Processes that belong together: none outlives the one that started it, and a failure is told once."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

ENDPOINT = "LX_RDZV_ENDPOINT"  # HOST:PORT, from who starts the machines of a run and knows where they can meet
_PARENT = "LX_PARENT_PID"
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h
_SCRUBBED = (
    "LOCAL_RANK",
    "RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "PL_GLOBAL_SEED",
)
_SCRUBBED_PREFIXES = ("MASTER_", "TORCHELASTIC_")


def child_environment() -> dict[str, str]:
    """The environment of a process that lx starts: it knows its parent, and nothing of what launchers told this one."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _SCRUBBED and not name.startswith(_SCRUBBED_PREFIXES)
    }
    return {**kept, _PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Have this process killed when the one of lx's that started it is gone, if it was one."""
    if parent := os.environ.pop(_PARENT, None):
        end_with(int(parent))


def end_with(parent: int) -> None:
    """Have this process killed when its parent is gone, where the system can do that (Linux)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it was watched
        os.kill(os.getpid(), signal.SIGKILL)


def is_first_rank() -> bool:
    """Whether this process is the one, of all that do the same work, that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def tell(message: str, code: int, secondary: bool = False) -> int:
    """Say how a process ended: to whoever started it as a rank, if somebody listens, else to a person.

    Args:
        message: what to say.
        code: the exit code of the process.
        secondary: whether another rank's end was the cause of this one's.

    Returns:
        ``code``.
    """
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        content = {"message": message, "timestamp": int(time.time()), "secondary": secondary}
        Path(file).write_text(json.dumps(content), encoding="utf-8")
    else:
        who = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        print(f"lx: {who}{message}", file=sys.stderr)
    return code


def exit_process(code: int) -> NoReturn:
    """End this process with an exit code; a rank ends at once, without Python's own teardown.

    Threads of gloo that outlive their process group (torch 2.13) abort a process whose interpreter is being torn down:
    about one rank in ten ended with SIGABRT after its work was done.
    """
    if "RANK" in os.environ:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def name_of_signal(code: int) -> str:
    """What a negative exit code of a process says."""
    return signal.Signals(-code).name + (" (out of memory?)" if code == -signal.SIGKILL else "")
