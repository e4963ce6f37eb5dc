"""``lx train``: compose a configuration, train, test the best weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lx.cli.arguments import SETTINGS, Parser
from lx.config.compose import compose_with
from lx.config.messages import plain_errors
from lx.config.session import CONFIG_NAME, hydra_session

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig


def run(arguments: list[str]) -> int:
    """Train, or print the configuration that would be trained, and return the exit code."""
    args = _parser().parse_intermixed_args(arguments)
    with hydra_session(args.config_dir) as hydra:
        with plain_errors(hydra, args.overrides):
            if args.cfg is not None:
                hydra.show_cfg(CONFIG_NAME, args.overrides, args.cfg, args.package, args.resolve)
                return 0
            if args.info is not None:
                hydra.show_info(args.info, CONFIG_NAME, args.overrides)
                return 0
        if args.multirun:
            return _multirun(hydra, args.overrides)
        cfg = compose_with(hydra, args.overrides)
    from lx.launch.local import launch

    return launch(cfg, args.overrides)[1]


def _parser() -> Parser:
    parser = Parser(
        "train", "Compose a configuration, train, test the best weights and write a run directory.", SETTINGS
    )
    parser.add_overrides("settings, as below")
    parser.add_config_dir()
    parser.add_argument(
        "--multirun",
        "-m",
        action="store_true",
        help="one run after the other, for every combination of comma-separated values",
    )
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"), help="print the composed configuration (job)")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: replace interpolations by their values")
    parser.add_argument("--package", "-p", metavar="KEY", help="with --cfg: only this part")
    parser.add_argument(
        "--info",
        "-i",
        nargs="?",
        const="all",
        metavar="WHAT",
        help="about the composition: all, config, defaults, defaults-tree, plugins, searchpath",
    )
    return parser


def _multirun(hydra: Hydra, overrides: list[str]) -> int:
    """Start a run for each combination, through Hydra's sweeper, each in a run directory of its own."""
    from hydra.core.hydra_config import HydraConfig

    from lx.launch.local import launch, objective_of

    def trial(unchecked: DictConfig) -> float | None:
        hydra_cfg = HydraConfig.get()
        cfg = compose_with(hydra, list(hydra_cfg.overrides.task))
        cfg.run_dir = hydra_cfg.runtime.output_dir
        cfg.name = f"{hydra_cfg.runtime.choices['data']}-{hydra_cfg.runtime.choices['model']}-{hydra_cfg.job.num}"
        return objective_of(*launch(cfg, list(hydra_cfg.overrides.task)))

    with plain_errors(hydra, overrides):
        hydra.multirun(CONFIG_NAME, trial, [*overrides, "hydra.mode=MULTIRUN"])
    return 0
