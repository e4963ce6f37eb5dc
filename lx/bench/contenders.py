"""Who takes part in a benchmark: lx itself, and other programs, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import PIPE
from types import ModuleType
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf

from lx.config.session import conf_dir
from lx.errors import LxError
from lx.system.hardware import Hardware


@dataclass
class Speed:
    """Of one contender in one round.

    Attributes:
        seconds: of the timed steps.
        tokens: real ones, without padding.
        examples: of the timed steps.
    """

    seconds: float
    tokens: int
    examples: int

    @property
    def tokens_per_second(self) -> float:
        """Real tokens, without padding."""
        return self.tokens / self.seconds


class Contender(Protocol):
    """Something that trains on the same examples."""

    name: str

    def run(self, warmup: int, steps: int) -> Speed:
        """Train some steps, and time those after the warmup."""


class Elsewhere:
    """A contender in a process of its own: none crowds the memory of another.

    Args:
        name: of the contender.
        command: starts the process. It reads a line of settings, and says that it is ready by an empty object. Then it
            reads for each round a line with the steps of the warmup and those that are timed, and answers with the
            fields of a :class:`Speed`. All lines are JSON.
        settings: for the process.
        log: a file for whatever else it says.
    """

    def __init__(self, name: str, command: Sequence[str], settings: object, log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("w") as said:
            self._process = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=said, text=True)
        self._tell(settings)
        self._answer()  # while it prepares itself, it would disturb the others

    def run(self, warmup: int, steps: int) -> Speed:
        """Let it train.

        Raises:
            LxError: it ended instead.
        """
        self._tell([warmup, steps])
        return Speed(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if answer := self._process.stdout.readline():
            found: dict[str, Any] = json.loads(answer)
            return found
        said = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
        code = self._process.wait()
        self.close()
        raise LxError(f"{self.name} ended with exit code {code}: {said[-1]}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _tell(self, message: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: the missing answer will tell
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()


def peers_of(names: Sequence[str], cfg: DictConfig, here: Hardware, scratch: Path) -> Iterator[Elsewhere]:
    """Start the programs of ``tests/benchmarks/peers.py`` one after another.

    Args:
        names: of groups of programs.
        cfg: the composed configuration.
        here: where to compute.
        scratch: a folder for what they say.

    Raises:
        LxError: this is no checkout, or a name is not known.
    """
    if not names:
        return
    path = conf_dir().parent / "tests" / "benchmarks" / "peers.py"
    if not path.exists():
        raise LxError("compare=... needs a checkout of lx's repository: the programs that it compares with are there")
    spec = importlib.util.spec_from_file_location("lx_benchmark_peers", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    known: dict[str, dict[str, Any]] = module.PEERS
    for name in names:
        if name not in known:
            raise LxError(f"compare={name}: unknown; there are: {', '.join(known)}")
    settings = {"cfg": OmegaConf.to_container(cfg, resolve=True), "here": asdict(here)}
    for name in names:
        for program in known[name]:
            command = [sys.executable, str(path), name, program]
            yield Elsewhere(program, command, settings, scratch / f"{program}.txt")
