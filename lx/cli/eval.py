"""``lx eval``: compute a run's metrics again."""

from __future__ import annotations

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
        from lx.inference.evaluate import evaluate_loaded, show
        from lx.inference.load import load_run
    from lx.system.files import atomic_write_json

    loaded = load_run(args.run, args.trust)
    result = evaluate_loaded(loaded, args.overrides)
    if is_first_rank():
        show(result, loaded.task)
        atomic_write_json(args.out or loaded.directory.path / "eval.json", result.to_json())
    return 0
