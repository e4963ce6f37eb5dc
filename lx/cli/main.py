"""The command line: ``lx train | resume | eval | predict | check``. Imports no torch, so that help answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lx.errors import LxError, RanksLostError, did_you_mean
from lx.system.gc import freeze_after_imports
from lx.system.processes import end_with_parent, is_first_rank, tell

_HELP = """\
lx: experiments with Transformer text classifiers

  lx train [key=value ...]          train and test a classifier; everything is a config choice
  lx resume RUN [key=value ...]     go on with an interrupted run, exactly where it was
  lx check [key=value ...]          read the data, build the model, run one batch: seconds, no training
  lx eval RUN [data.test=FILE ...]  a run's metrics again, on its own test split or on other data
  lx bench [key=value ...]          how fast it trains here, against what the chip can do and other programs
  lx predict RUN [FILE | -]         label texts from a file, standard input or --text

Each command answers --help. First steps:

  lx train                          a real corpus that is already on this machine: no download, no account
  lx train data=files data.train=train.csv data.test=test.csv data.text=text data.label=label
  lx train --cfg job                the whole configuration, composed
  eval "$(lx completion bash)"      complete keys and options with the tab key (bash, zsh, fish)
"""

_TRAIN_HELP = """\
lx train [key=value ...]: compose a configuration, train, test the best weights, write a run directory

  data=docstrings|files|hub|<preset>     data.train= data.validation= data.test= data.text= data.label= data.batch_size=
  tokenizer=bpe|wordpiece|unigram|word|char|byte|pretrained                                tokenizer.vocab_size=
  model=tiny|small|base|large|bag|pretrained               model.dim= model.num_layers= model.num_heads= model.dropout=
  model/position=sinusoidal|learned|rotary|alibi|none      model/norm= model/feedforward= model/pooling= model/block=
  optimizer=sgd|adam|adamw|muon|...                        optimizer.lr= optimizer.weight_decay=
  scheduler=constant|linear|cosine|inverse_sqrt|wsd        scheduler.warmup=
  hardware=auto|cpu|gpu|mps|ddp|ddp_cpu|fsdp|slurm         hardware.devices= hardware.num_nodes= hardware.precision=
  logger=default|csv|wandb|tensorboard|none                trainer.max_epochs= trainer.max_steps= trainer.on_nan=
  name= seed= run_dir= resume= launch=process|inline|prepare

  --cfg job            print the composed configuration and stop       --resolve  with interpolations replaced
  --info GROUP         about the composition: all, config, defaults, defaults-tree, plugins, searchpath
  --config-dir DIR     a directory of your own config groups, searched first
  -m, --multirun       one run after the other for every combination of comma-separated values
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated."""
    end_with_parent()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if command == "--version":
        from lx import __version__

        print(f"lx {__version__}")
        return 0
    try:
        return _COMMANDS.get(command, partial(_unknown, command))(rest)
    except LxError as error:
        return tell(f"error: {error}", error.exit_code, secondary=isinstance(error, RanksLostError))
    except ChildProcessError as error:
        print(f"lx: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output, head for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _train(arguments: list[str]) -> int:
    from lx.config.compose import CONFIG_NAME, compose_with, hydra_session, readable_errors

    args = _hydra_arguments(arguments)
    if args.help:
        print(_TRAIN_HELP, end="")
        return 0
    with hydra_session(args.config_dir) as hydra:
        if args.cfg is not None:
            with readable_errors(hydra, args.overrides):
                hydra.show_cfg(CONFIG_NAME, args.overrides, args.cfg, args.package, args.resolve)
            return 0
        if args.info is not None:
            with readable_errors(hydra, args.overrides):
                hydra.show_info(args.info, CONFIG_NAME, args.overrides)
            return 0
        if args.multirun:
            return _multirun(hydra, args.overrides)
        cfg = compose_with(hydra, args.overrides)
    from lx.launch.local import launch

    return launch(cfg, args.overrides)[1]


def _multirun(hydra: Any, overrides: list[str]) -> int:
    """One run for each combination, through Hydra's sweeper; each a run directory of its own."""
    from hydra.core.hydra_config import HydraConfig

    from lx.config.compose import CONFIG_NAME, readable_errors
    from lx.launch.local import launch, objective_of

    def trial(cfg: Any) -> float | None:
        hydra_cfg = HydraConfig.get()
        cfg.run_dir = hydra_cfg.runtime.output_dir
        cfg.name = f"{hydra_cfg.runtime.choices['data']}-{hydra_cfg.runtime.choices['model']}-{hydra_cfg.job.num}"
        return objective_of(*launch(cfg, list(hydra_cfg.overrides.task)))

    with readable_errors(hydra, overrides):
        hydra.multirun(CONFIG_NAME, trial, [*overrides, "hydra.mode=MULTIRUN"])
    return 0


def _resume(arguments: list[str]) -> int:
    parser = _Parser(
        "lx resume",
        "Go on with an interrupted run: in its directory, from the exact next batch, to the same weights. A run that "
        "has finished can be made longer; its learning-rate schedule is then that of the new length, so the rate "
        "jumps to where the longer schedule is at that step.",
    )
    parser.add_argument("run", metavar="RUN", help="the run directory")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="hardware=..., logger=..., trainer.max_epochs=N or =+2, trainer.max_steps, trainer.save_every_n_steps, "
        "trainer.on_nan",
    )
    _add_trust(parser)
    args = parser.parse_intermixed_args(arguments)
    from lx.launch.local import resume

    return resume(args.run, args.overrides, args.trust)


def _check(arguments: list[str]) -> int:
    from lx.config.compose import compose

    args = _hydra_arguments(arguments)
    if args.help:
        print("lx check [key=value ...]: what lx train would do with these overrides, without training\n")
        print(_TRAIN_HELP.split("\n", 2)[2], end="")
        return 0
    cfg = compose(args.overrides, args.config_dir)
    with freeze_after_imports():
        from lx.cli.check import check
    check(cfg)
    return 0


def _bench(arguments: list[str]) -> int:
    parser = _Parser(
        "lx bench",
        "How fast a configuration trains on this machine, how near that is to what the chip can do, where time goes.",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="as of lx train; compare=hf,lightning,bare runs other programs in turn (in a checkout, with lx[bench])",
    )
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="timed in a round (default: 20)")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="steps before them (default: 5)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of which the median counts (default: 5)")
    parser.add_argument("--config-dir", metavar="DIR", help="a directory of your own config groups, searched first")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report here, as JSON")
    args = parser.parse_intermixed_args(arguments)
    if min(args.steps, args.warmup, args.rounds) < 1:
        raise LxError("--steps, --warmup and --rounds must be at least 1")
    from lx.config.compose import compose

    compared = [override for override in args.overrides if override.startswith("compare=")]
    cfg = compose([override for override in args.overrides if override not in compared], args.config_dir)
    with freeze_after_imports():
        from lx.bench.benchmark import bench, show, write
    peers = [name for override in compared for name in override.partition("=")[2].split(",") if name]
    report = bench(cfg, args.steps, args.warmup, args.rounds, peers)
    show(report)
    if args.out is not None:
        write(report, args.out)
    return 0


def _eval(arguments: list[str]) -> int:
    parser = _Parser("lx eval", "Evaluate a run's best weights on its own test split, or on other data.")
    parser.add_argument("run", metavar="RUN", help="the run directory")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="data.test=FILE and other data settings; hardware=cpu",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the metrics (default: RUN/eval.json)")
    _add_trust(parser)
    args = parser.parse_intermixed_args(arguments)
    from lx.launch.local import spread

    on_hardware = [override for override in args.overrides if override.startswith(("hardware=", "hardware."))]
    if (code := spread(args.run, on_hardware, ["eval", *arguments])) is not None:
        return code
    from dataclasses import asdict

    with freeze_after_imports():
        from lx.inference.evaluate import evaluate, show
    from lx.run.directory import RunDirectory, atomic_write_json

    result = evaluate(args.run, args.overrides, args.trust)
    if is_first_rank():
        run = RunDirectory(Path(args.run))
        show(result, run.read_labels())
        atomic_write_json(args.out or run.path / "eval.json", asdict(result))
    return 0


def _predict(arguments: list[str]) -> int:
    parser = _Parser("lx predict", "Label texts, in the order of the input.")
    parser.add_argument("run", metavar="RUN", help="the run directory")
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="CSV, TSV, JSON Lines, Parquet or .txt; - (default): lines of stdin",
    )
    parser.add_argument("--text", nargs="+", metavar="TEXT", help="texts to label, instead of a file")
    parser.add_argument("--pair", nargs="+", metavar="TEXT", help="the second text of each --text")
    parser.add_argument("--column", metavar="NAME", help="the column of texts (default: as in training, else text)")
    parser.add_argument("--pair-column", metavar="NAME", help="the column of second texts (default: as in training)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write here (.jsonl or .csv) instead of to stdout")
    parser.add_argument("--format", choices=("jsonl", "csv"), help="default: by the name of --out, else jsonl")
    parser.add_argument("--probabilities", action="store_true", help="the probability of every class, too")
    parser.add_argument("--accelerator", default="auto", metavar="NAME", help="auto (default), cpu, gpu or mps")
    parser.add_argument("--devices", default="1", metavar="N", help="how many share the texts; auto: all here")
    parser.add_argument("--precision", metavar="NAME", help="auto, 32-true, bf16-mixed, ... (default: as in training)")
    _add_trust(parser)
    args = parser.parse_args(arguments)
    if args.text and args.file:
        raise LxError("give texts with --text or a file, not both")
    from lx.launch.local import spread

    devices = [f"hardware.accelerator={args.accelerator}", f"hardware.devices={args.devices}"]
    on_hardware = devices if args.devices != "1" else []
    if (code := spread(args.run, on_hardware, ["predict", *arguments])) is not None:
        return code
    with freeze_after_imports():
        from lx.inference.classifier import run_predict
    run_predict(args)
    return 0


def _completion(arguments: list[str]) -> int:
    from lx.cli.completion import complete

    return complete(arguments)


def _unknown(command: str, arguments: list[str]) -> int:
    raise LxError(f"there is no command {command!r}{did_you_mean(command, list(_COMMANDS))}: lx --help lists them")


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "resume": _resume,
    "check": _check,
    "eval": _eval,
    "predict": _predict,
    "bench": _bench,
    "completion": _completion,
}


class _Parser(argparse.ArgumentParser):
    """Prints one clear message for a wrong command line, as every other bad input gets."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description)

    def error(self, message: str) -> Any:
        """Raise what the command line prints."""
        raise LxError(f"{message}\n  {self.prog} --help lists the arguments")


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="build this package's classes, too"
    )


def _hydra_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lx", add_help=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.error = _Parser.error.__get__(parser)  # type: ignore[method-assign]
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
