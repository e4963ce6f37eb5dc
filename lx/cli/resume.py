"""``lx resume``: go on with an interrupted run."""

from __future__ import annotations

from pathlib import Path

from lx.cli.arguments import Parser, require_one_run


def run(arguments: list[str]) -> int:
    """Resume the run and return its exit code."""
    args = parser().parse_intermixed_args(arguments)
    require_one_run(Path(args.run), "resume", "lx sweep resume")
    from lx.launch.local import resume

    return resume(args.run, args.overrides, args.trust, pruned=args.pruned)


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser(
        "resume",
        "Go on with an interrupted run: in its directory, from the exact next batch, to the same weights. A run that "
        "has finished can be made longer; its learning-rate schedule is then that of the new length, so the rate "
        "jumps to where the longer schedule is at that step.",
    )
    parser.add_argument("run", metavar="RUN", help="the run directory")
    parser.add_overrides(
        "hardware=..., launch=process, logger=..., trainer.max_epochs=N or =+2, trainer.max_steps, "
        "trainer.save_every_n_steps, trainer.save_every_n_minutes, trainer.on_nan"
    )
    parser.add_argument("--pruned", action="store_true", help="go on even if the run's sweep has pruned it")
    parser.add_trust()
    return parser
