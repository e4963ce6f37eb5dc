"""The list of verbs, and the function behind the command ``lx``."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from lx.errors import LxError, RanksLostError, did_you_mean, shorten_text
from lx.system.output import DataStream, flush_streams, open_streams
from lx.system.processes import end_with_parent, report_exit, working_directory_last

if TYPE_CHECKING:
    from lx.cli.arguments import Parser


class Verb(NamedTuple):
    """A command of ``lx``; completion offers the settings of ``lx train`` to those that compose a configuration."""

    name: str
    usage: str
    summary: str
    composes: bool = False

    def run(self, arguments: list[str]) -> int:
        """Import the verb's file, run it and return the exit code."""
        code: int = import_module(f"lx.cli.{self.name}").run(arguments)
        return code

    def parser(self) -> Parser | None:
        """Return the parser of its arguments, if it has one."""
        make: Callable[[], Parser] | None = getattr(import_module(f"lx.cli.{self.name}"), "parser", None)
        return None if make is None else make()


VERBS = (
    Verb("train", "[key=value ...]", "train and test a classifier; everything is a config choice", composes=True),
    Verb("resume", "RUN [key=value ...]", "go on with an interrupted run, exactly where it was"),
    Verb("sweep", "resume|work|show DIR", "go on with a sweep of lx train -m, work on it, or show it"),
    Verb("check", "[key=value ...]", "read the data, build the model, run one batch: no training", composes=True),
    Verb("eval", "RUN [data.test=FILE ...]", "compute a run's metrics again, on its own test split or other data"),
    Verb("predict", "RUN [FILE | -]", "label texts from a file, standard input or --text"),
    Verb("compare", "RUN RUN ...", "what differs between runs or trials, and whether the difference is real"),
    Verb("explain", "RUN --text TEXT", "show what each word adds to a prediction, and the attention"),
    Verb("report", "RUN ... | SWEEP", "write an HTML file of curves, confusions, mistakes; or of a sweep"),
    Verb("bench", "[key=value ...]", "measure how fast a configuration trains on this machine", composes=True),
    Verb("sync", "RUN ...", "upload to W&B what runs and sweeps have recorded offline"),
    Verb("completion", "bash|zsh|fish", "print the script that completes commands and settings with the tab key"),
)

_FIRST_STEPS = """\
Each command answers --help. First steps:

  lx train                           a real corpus that is already on this machine: no download, no account
  lx train data=files data.train=train.csv data.test=test.csv data.text=text data.label=label
  lx train --cfg job                 the whole configuration, composed
  eval "$(lx completion bash)"       complete commands and settings with the tab key (bash, zsh, fish)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated."""
    end_with_parent()
    working_directory_last()
    open_streams()
    return flush_streams(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name, rest = (arguments[0], list(arguments[1:])) if arguments else ("--help", [])
    try:
        if name in ("-h", "--help", "help"):
            return _print(_help())
        if name == "--version":
            from lx import __version__

            return _print(f"lx {__version__}\n")
        return _find_verb(name).run(rest)
    except LxError as error:
        return report_exit(f"error: {error}", error.exit_code, secondary=isinstance(error, RanksLostError))
    except ChildProcessError as error:
        return report_exit(str(error), 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output, such as head, has closed it
        return 0
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return report_exit(f"error: {shorten_text(str(error.filename))!r} is too long for the name of a file", 2)


def _print(text: str) -> int:
    DataStream().write(text)
    return 0


def _find_verb(name: str) -> Verb:
    verbs = {verb.name: verb for verb in VERBS}
    if name not in verbs:
        raise LxError(f"there is no command {name!r}{did_you_mean(name, list(verbs))}: lx --help lists them")
    return verbs[name]


def _help() -> str:
    lines = [f"  {f'lx {verb.name} {verb.usage}':<35}{verb.summary}" for verb in VERBS]
    return "\n".join(["lx: experiments with Transformer text classifiers", "", *lines, "", _FIRST_STEPS])


if __name__ == "__main__":
    sys.exit(main())
