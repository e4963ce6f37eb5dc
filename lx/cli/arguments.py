"""The argument parser that all verbs share."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from lx.errors import LxError, did_you_mean
from lx.system.files import as_argument, check_output

SETTINGS = """\
settings:
  recipe=auto|plain (what settings become that are auto)   task=classification|multilabel|regression    experiment=
  data=docstrings|files|hub|<preset>     data.train= data.validation= data.test= data.text= data.label= data.batch_size=
  tokenizer=auto|bpe|wordpiece|unigram|word|char|byte|pretrained                           tokenizer.vocab_size=
  model=auto|tiny|small|base|large|bag|linear|pretrained   model.dim= model.num_layers= model.num_heads= model.dropout=
  model/position=sinusoidal|learned|rotary|alibi|none      model/norm= model/feedforward= model/pooling= model/block=
  optimizer=sgd|adam|adamw|muon|...                        optimizer.lr= optimizer.weight_decay=
  scheduler=constant|linear|cosine|inverse_sqrt|wsd        scheduler.warmup=
  hardware=auto|cpu|gpu|mps|ddp|ddp_cpu|fsdp|slurm         hardware.devices= hardware.num_nodes= hardware.precision=
  logger=default|csv|wandb|tensorboard|mlflow|none         trainer.max_epochs= trainer.max_steps= trainer.on_nan=
  name= seed= run_dir= resume= launch=process|inline|prepare
"""

_OF_A_SWEEP = ("sweep.json", "journal.log", "leaderboard.csv", "trial.json")
_MARKERS = ("config.yaml", "sweep.json", "trial.json")  # of a run, a sweep and a trial


def runs_of(args: argparse.Namespace) -> list[Path]:
    """Return the run that the arguments name, or the runs of a sweep that predict together, and print which.

    Raises:
        LxError: neither is there, or ``--out`` would overwrite a file of a run.
    """
    from lx.distributed.rank_info import RankInfo
    from lx.sweep.members import members
    from lx.system.output import say

    runs = members(Path(args.run), args.top)
    for run in runs:
        check_out(args.out, str(run))
    if runs != [Path(args.run)] and RankInfo.from_environment().is_first:
        say(f"the average of {', '.join(map(str, runs))}" if len(runs) > 1 else f"{runs[0]}", sys.stderr)
    return runs


def require_one_run(path: Path, verb: str, of_sweep: str = "") -> None:
    """Refuse a sweep or a folder of runs, such as those of a trial, for a command that takes one run.

    Args:
        path: what is named.
        verb: the command.
        of_sweep: the corresponding command for a sweep, if there is one.

    Raises:
        LxError: names that command, and a run.
    """
    from lx.run.paths import runs_of_path
    from lx.sweep.members import is_sweep

    if is_sweep(path):
        trials = sorted(child for child in path.iterdir() if child.name.isdecimal())
        advice = f"; for the sweep: {of_sweep} {shlex.quote(as_argument(path))}" if of_sweep else ""
        runs, kind = runs_of_path(trials[0]) if trials else [], "a sweep"
    else:
        advice, runs, kind = "", runs_of_path(path), "a folder of runs"
    if runs != [path]:
        example = f", such as {runs[0]}" if runs else ""
        raise LxError(f"{path} is {kind}, and lx {verb} takes one run{example}{advice}")


def check_out(out: Path | None, run: str | None, overrides: Sequence[str] = (), inputs: Sequence[str] = ()) -> None:
    """Refuse to write over what a command reads, over a file of any run or sweep, or where nothing can be written.

    Args:
        out: what ``--out`` names.
        run: the run directory, if the command has one.
        overrides: in which ``data.*`` may name files.
        inputs: other files that are read.

    Raises:
        LxError: names the directory that is missing, or what would be lost.
    """
    if out is None:
        return
    from lx.config.grammar import FILES, as_grammar, parse

    data = [str(override.value()) for override in parse(as_grammar(overrides)) if override.key_or_group in FILES]
    if any(_is_same(out, Path(path)) for path in (*data, *inputs)):
        raise LxError(f"--out {out} is a file that is read, and would be lost: choose another name")
    from lx.run.directory import RunDirectory

    above = [path for path in (out.parent, out.parent.parent) if any((path / name).exists() for name in _MARKERS)]
    for directory in map(RunDirectory, above if run is None else [*above, Path(run)]):
        own = (*directory.files(), *(directory.path / name for name in _OF_A_SWEEP))
        if any(_is_same(out, path) for path in own) or _is_same(out.parent, directory.last.parent):
            raise LxError(f"--out {out} is a file of a run or sweep, which would be lost: choose another name")
    check_output(out)


def check_ending(out: Path | None, *endings: str) -> None:
    """Refuse a name for ``--out`` that promises another format than it would hold."""
    if out is not None and (suffix := out.suffix.lower()) not in ("", *endings):
        raise LxError(f"--out {out}: what is written is no {suffix}: choose a name that ends in {', '.join(endings)}")


def _is_same(path: Path, other: Path) -> bool:
    with suppress(OSError, RuntimeError):  # a name that is too long, or links in a circle
        return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))
    return False


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are an :class:`LxError`, printed as every other bad input is."""

    def __init__(self, verb: str, description: str, table: str = "") -> None:
        """Name the command as it is typed after ``lx``; ``--help`` prints ``table`` below the arguments."""
        super().__init__(f"lx {verb}", description=description)
        self.table = table

    def error(self, message: str) -> NoReturn:
        """Raise what the command line prints."""
        message = message.replace(", key=value", "")  # which is never required
        if unknown := re.match(r"unrecognized arguments: (--?([\w/]+(?:\.\w+)*=\S+)|--[\w-]+)", message):
            message += did_you_mean(unknown[1], self.options())
            if unknown[2]:
                message += f"\n  if a setting is meant, it has no hyphens: {unknown[2]}"
            elif "[key=value ...]" in self.format_usage():
                message += f"\n  if a setting is meant, it is written {unknown[1].strip('-')}=VALUE"
        raise LxError(f"{message}\n  {self.prog} --help lists the arguments")

    def format_help(self) -> str:
        """Add the table to argparse's help."""
        return f"{super().format_help()}\n{self.table}" if self.table else super().format_help()

    def options(self) -> list[str]:
        """Return the long options."""
        return re.findall(r"--[a-z][\w-]*", self.format_usage())

    def add_overrides(self, help: str) -> None:
        """Add the positional arguments ``key=value ...``; they may stand before, between and behind the options."""
        self.add_argument("overrides", nargs="*", metavar="key=value", help=help)

    def add_run(self) -> None:
        """Add the run directory, or the folder or sweep whose runs are averaged."""
        text = "a run; a folder of runs such as SWEEP/0, for their average; a sweep, for that of its best runs"
        self.add_argument("run", metavar="RUN", help=text)
        text = "of a sweep: its best N runs by validation (default: those of its best trial, one a seed)"
        self.add_argument("--top", type=_positive, metavar="N", help=text)

    def add_config_dir(self) -> None:
        """Add ``--config-dir``."""
        text = "a directory with config groups of your own, which adds options to lx's (default: $LX_CONFIG_DIR)"
        self.add_argument("--config-dir", "-cd", metavar="DIR", help=text)

    def add_trust(self) -> None:
        """Add ``--trust``, for commands on a run directory that may come from a stranger."""
        text = "also build classes of this package"
        self.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help=text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)
