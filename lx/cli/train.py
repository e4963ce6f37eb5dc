"""``lx train``: compose a configuration, train, test the best weights."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from lx.cli.arguments import SETTINGS, Parser
from lx.config.compose import compose_with
from lx.config.grammar import as_grammar, with_files
from lx.config.json_overrides import overrides_from_json
from lx.config.messages import plain_errors
from lx.config.session import CONFIG_NAME, compose_unchecked, hydra_session
from lx.errors import LxError
from lx.system.output import DataStream

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig


def run(arguments: list[str]) -> int:
    """Train, or print the configuration that would be trained, and return the exit code."""
    args = parser().parse_intermixed_args(arguments)
    if args.dry_run and not args.multirun:
        raise LxError("--dry-run shows the plan of a sweep, and needs -m; lx check tries a single run without training")
    if args.cfg is None and (args.resolve or args.package is not None):
        raise LxError("--resolve and --package say how --cfg prints the configuration, and need it: --cfg job")
    if args.json_overrides is not None:
        args.overrides += overrides_from_json(args.json_overrides)
    with hydra_session(args.config_dir) as hydra:
        if args.cfg is not None or args.info is not None:
            _print_config(hydra, args)
            return 0
        if not args.multirun:
            cfg = compose_with(hydra, args.overrides)
    if args.multirun:
        from lx.sweep.commands import run_sweep

        return run_sweep(args.overrides, args.config_dir, dry_run=args.dry_run).exit_code
    from lx.launch.local import launch

    return launch(cfg, args.overrides, args.config_dir)[1]


def _print_config(hydra: Hydra, args: Namespace) -> None:
    """Print what ``--cfg`` or ``--info`` asks for."""
    overrides = with_files(as_grammar(args.overrides))
    with plain_errors(hydra, overrides):
        if args.info is not None:
            hydra.show_info(args.info, CONFIG_NAME, overrides)
        elif args.cfg == "job":
            _show(compose_unchecked(hydra, overrides), args.package, args.resolve)
        else:
            hydra.show_cfg(CONFIG_NAME, overrides, args.cfg, args.package, args.resolve)


def _show(cfg: DictConfig, key: str | None, resolve: bool) -> None:
    """Print a configuration as YAML, or the part of it below a key."""
    from omegaconf import OmegaConf

    if resolve:
        OmegaConf.resolve(cfg)
    part = cfg if key in (None, "_global_") else OmegaConf.select(cfg, key)
    if part is None:
        raise LxError(f"--package {key}: the configuration has no such part")
    heading = "" if key is None else f"# @package {key}\n"
    DataStream().write(f"{heading}{OmegaConf.to_yaml(part)}" if OmegaConf.is_config(part) else f"{part}\n")


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser(
        "train", "Compose a configuration, train, test the best weights and write a run directory.", SETTINGS
    )
    parser.add_overrides("settings, as below")
    parser.add_config_dir()
    parser.add_argument(
        "--multirun",
        "-m",
        action="store_true",
        help="a sweep: a grid of comma-separated values, or a search: sweep=tpe sweep.n_trials=50 (conf/sweep has all)",
    )
    parser.add_argument("--dry-run", action="store_true", help="with -m: check every value and show the plan, no more")
    parser.add_argument(
        "--json-overrides",
        metavar="JSON",
        help='more settings, as an object: {"optimizer.lr": 1e-05}; a W&B agent gives them as ${args_json} (sweeps/)',
    )
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"), help="print the composed configuration (job)")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: replace interpolations by their values")
    parser.add_argument("--package", "-p", metavar="KEY", help="with --cfg: only this part")
    parser.add_argument(
        "--info",
        "-i",
        nargs="?",
        const="all",
        choices=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
        help="about the composition (all)",
    )
    return parser
