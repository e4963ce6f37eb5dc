"""``lx sweep``: resume, extend or show a sweep that ``lx train -m`` began."""

from __future__ import annotations

from pathlib import Path

from lx.cli.arguments import Parser


def run(arguments: list[str]) -> int:
    """Resume or show a sweep and return the exit code."""
    parser = Parser(
        "sweep",
        "Go on with a sweep that was interrupted, make it larger, or show its leaderboard. lx train -m begins one: "
        "give several values, as in model=tiny,small seed=0,1,2, or search with sweep=tpe sweep.n_trials=50.",
    )
    parser.add_argument("action", choices=("resume", "show"), help="what to do")
    parser.add_argument("directory", type=Path, metavar="DIR", help="the sweep's directory")
    parser.add_overrides("with resume: sweep.n_trials=+20, sweep.seeds, sweep.n_jobs, sweep.retries, sweep.budget, ...")
    args = parser.parse_intermixed_args(arguments)
    if args.action == "show":
        from lx.sweep.view import show_sweep

        show_sweep(args.directory)
        return 0
    from lx.sweep.commands import resume_sweep

    return resume_sweep(args.directory, args.overrides).exit_code
