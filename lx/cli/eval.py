"""``lx eval``: compute a run's metrics again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from lx.cli.arguments import Parser
from lx.system.gc import freeze_after_imports
from lx.system.processes import is_first_rank


def run(arguments: list[str]) -> int:
    """Evaluate a run, print its metrics, write them to a file and return the exit code."""
    parser = Parser("eval", "Evaluate a run's best weights on its own test split, or on other data.")
    parser.add_argument("run", metavar="RUN", help="the run directory")
    parser.add_overrides("data.test=FILE and other data settings; hardware=cpu")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the metrics (default: RUN/eval.json)")
    parser.add_trust()
    args = parser.parse_intermixed_args(arguments)
    from lx.launch.local import run_on_ranks

    hardware = [override for override in args.overrides if override.startswith(("hardware=", "hardware."))]
    if (code := run_on_ranks(args.run, hardware, ["eval", *arguments])) is not None:
        return code
    with freeze_after_imports():
        from lx.inference.evaluate import evaluate, show
    from lx.run.directory import RunDirectory
    from lx.system.files import atomic_write_json

    result = evaluate(args.run, args.overrides, args.trust)
    if is_first_rank():
        directory = RunDirectory(Path(args.run))
        show(result, directory.read_labels())
        atomic_write_json(args.out or directory.path / "eval.json", asdict(result))
    return 0
