"""``lx sync``: upload to W&B what runs have recorded offline."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from lx.cli.arguments import Parser
from lx.errors import LxError
from lx.report.tables import count
from lx.run.directory import RunDirectory
from lx.run.lock import in_use
from lx.run.paths import runs_of_path
from lx.sweep.members import is_sweep
from lx.system.output import say


def run(arguments: list[str]) -> int:
    """Upload the records of runs and sweeps and return the exit code."""
    args = parser().parse_args(arguments)
    runs = list(dict.fromkeys(run for path in args.paths for run in _runs_in(path)))
    from lx.tracking.wandb_parts import parts_of
    from lx.tracking.wandb_sync import upload

    records = []
    for path in runs:
        parts = [part for part in parts_of(path) if part.is_unsent]
        if parts and in_use(RunDirectory(path)):
            say(f"{path} is still being trained: it is left out", sys.stderr)
        elif parts:
            records.append(parts)
    uploaded = upload(records) if records else 0
    say(f"uploaded {count(uploaded, 'run')}" if uploaded else "there is nothing to upload")
    return 0


def _runs_in(path: Path) -> Iterator[Path]:
    """Yield a run, those of a folder, or those of a sweep's trials and their seeds."""
    if is_sweep(path):
        yield from sorted(config.parent for depth in ("*", "*/*") for config in path.glob(f"{depth}/config.yaml"))
    elif path.is_dir():
        yield from runs_of_path(path)
    else:
        raise LxError(f"no run directory {path}")


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser(
        "sync",
        "Upload to W&B what runs have recorded offline: all parts of a run that was resumed, in their order. What has "
        "arrived is marked, so that the same command goes on after an interruption.",
    )
    text = "runs, folders of runs such as SWEEP/0, or sweeps"
    parser.add_argument("paths", nargs="+", type=Path, metavar="RUN", help=text)
    return parser
