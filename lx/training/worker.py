"""The process that trains a run, ``python -m lx.worker RUN``: how it ends becomes an exit code and a message."""

from __future__ import annotations

import re
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from lx.system.gc import freeze_after_imports

if __name__ == "__main__":  # a signal during the seconds of imports ends this process, without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

with freeze_after_imports(__name__ == "__main__"):
    from lx.distributed.rank_info import RankInfo
    from lx.errors import LxError, RanksLostError
    from lx.run.directory import RunDirectory
    from lx.system.output import open_streams, say
    from lx.system.processes import (
        end_with_parent,
        exit_process,
        process_seconds,
        report_exit,
        working_directory_last,
    )
    from lx.system.signals import Stopped
    from lx.tracking.wandb_agent import end_of_stopped
    from lx.training.train import train_in


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the worker process; returns its exit code."""
    end_with_parent()
    working_directory_last()
    open_streams()
    (path,) = sys.argv[1:] if arguments is None else arguments
    return execute(RunDirectory(Path(path)), process_seconds())


def execute(run: RunDirectory, seconds_before: float = 0.0) -> int:
    """Train a run and turn the way it ends into an exit code and a message.

    Args:
        run: its directory.
        seconds_before: that the start of its process has taken so far.
    """
    rank_info = RankInfo.from_environment()
    try:
        train_in(run, rank_info, seconds_before)
    except LxError as error:
        return report_exit(f"error: {error}", error.exit_code, secondary=isinstance(error, RanksLostError))
    except Stopped as stopped:
        status, code = end_of_stopped(stopped.exit_code)
        message = f"{stopped}; to go on: lx resume {run.quoted}"
        return report_exit(f"pruned, {message} --pruned" if status == "pruned" else message, code)
    except Exception as error:
        if died := re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)", str(error)):
            return report_exit(
                f"error: a process that assembles batches (pid {died[1]}) died, perhaps of too little memory; "
                f"to go on: lx resume {run.quoted} hardware.num_workers=0",
                1,
            )
        say(traceback.format_exc(), sys.stderr)
        return report_exit(f"the run failed ({type(error).__name__}: {error}); its directory is {run.path}", 1)
    return 0


if __name__ == "__main__":
    exit_process(main())
