"""``lx sweep``: resume, extend, work on or show a sweep that ``lx train -m`` began."""

from __future__ import annotations

from pathlib import Path

from lx.cli.arguments import Parser
from lx.errors import LxError


def run(arguments: list[str]) -> int:
    """Resume, work on or show a sweep and return the exit code."""
    args = parser().parse_intermixed_args(arguments)
    if args.action == "show":
        from lx.sweep.view import show_sweep

        if args.overrides:
            raise LxError(f"{args.overrides[0]}: lx sweep show takes no settings")
        show_sweep(args.directory)
        return 0
    from lx.sweep.commands import resume_sweep, work_on_sweep

    act = work_on_sweep if args.action == "work" else resume_sweep
    return act(args.directory, args.overrides).exit_code


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser(
        "sweep",
        "resume: go on with a sweep that was interrupted, or make it larger. work: run its trials beside others, on "
        "this machine or on several that share its directory. show: its leaderboard. lx train -m begins a sweep: "
        "give several values, as in model=tiny,small seed=0,1,2, or search with sweep=tpe sweep.n_trials=50.",
    )
    parser.add_argument("action", choices=("resume", "work", "show"), help="what to do")
    parser.add_argument("directory", type=Path, metavar="DIR", help="the sweep's directory")
    parser.add_overrides(
        "with resume: sweep.n_trials=+20, sweep.seeds, sweep.n_jobs, sweep.retries, sweep.budget, ...; with work, for "
        "this worker: sweep.n_jobs, sweep.per_gpu, sweep.budget"
    )
    return parser
