"""Start processes that end with their parent, and report each failure once."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from lx.errors import shorten_text
from lx.system.output import escape, flush_streams, say

ENDPOINT = "LX_RDZV_ENDPOINT"  # HOST:PORT where the machines of a run meet
SWEEP_STORAGE = "LX_SWEEP_STORAGE"  # address of the database of a sweep; it may hold a password
_PARENT = "LX_PARENT_PID"
_LONGEST = 900  # characters of a message
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h
_SCRUBBED = (
    "LOCAL_RANK",
    "RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "PL_GLOBAL_SEED",
    SWEEP_STORAGE,
)
_SCRUBBED_PREFIXES = ("MASTER_", "TORCHELASTIC_")


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable while the block runs."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def child_environment() -> dict[str, str]:
    """Return the environment for a process that lx starts: its parent's number, no rank of this one, no password."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _SCRUBBED and not name.startswith(_SCRUBBED_PREFIXES)
    }
    # Python puts the working directory first on the path of `python -m`: a file tokenizers.py there would hide the
    # package. It comes last instead, see below; only a checkout of lx that is used as it stands needs it in front.
    if not (Path.cwd() / "lx" / "__init__.py").is_file():
        environment["PYTHONSAFEPATH"] = "1"
    return {**environment, _PARENT: str(os.getpid())}


def working_directory_last() -> None:
    """Find modules of the user's own in the working directory, behind all that is installed."""
    here = str(Path.cwd())
    sys.path[:] = [*(folder for folder in sys.path if folder not in ("", here)), here]


def end_with_parent() -> None:
    """Have the system kill this process when the process of lx that started it has ended, if one did."""
    if parent := os.environ.pop(_PARENT, None):
        end_with(int(parent))


def end_with(parent: int) -> None:
    """Have the system kill this process when its parent has ended, where it can (Linux)."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes  # not for the command that a person types, nor json

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call above
        os.kill(os.getpid(), signal.SIGKILL)


def report_exit(message: str, code: int, secondary: bool = False) -> int:
    """Report how this process ended: to torchrun's error file if there is one, else on stderr; return ``code``.

    ``secondary`` says that another rank's end caused this one's.
    """
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        import json

        content = {"message": message, "timestamp": int(time.time()), "secondary": secondary}
        Path(file).write_text(json.dumps(content), encoding="utf-8")
    else:
        prefix = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        say(shorten_text(escape(f"lx: {prefix}{message}"), _LONGEST), sys.stderr)  # cause and cure stand at its ends
    return code


def exit_process(code: int) -> NoReturn:
    """End this process with an exit code; a rank ends at once, without Python's own teardown.

    Threads of gloo that outlive their process group (torch 2.13) abort a process whose interpreter is being torn down:
    about one rank in ten ended with SIGABRT after its work was done.
    """
    code = flush_streams(code)
    if "RANK" in os.environ:
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


def name_of_signal(code: int) -> str:
    """Return the name of the signal that a negative exit code stands for."""
    return signal.Signals(-code).name + (" (out of memory?)" if code == -signal.SIGKILL else "")


def process_seconds() -> float:
    """Return the seconds since this process began; 0 where /proc does not say."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
