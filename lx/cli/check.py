"""``lx check``: find in seconds what would go wrong in training."""

from __future__ import annotations

from lx.cli.arguments import SETTINGS, Parser
from lx.config.compose import compose
from lx.system.gc import freeze_after_imports


def run(arguments: list[str]) -> int:
    """Check a configuration and return the exit code."""
    args = parser().parse_intermixed_args(arguments)
    cfg = compose(args.overrides, args.config_dir)
    with freeze_after_imports():
        from lx.training.dry_run import dry_run
    dry_run(cfg)
    return 0


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser(
        "check", "Read the data, build the model and run one batch, as lx train would; no training.", SETTINGS
    )
    parser.add_overrides("settings, as of lx train")
    parser.add_config_dir()
    return parser
