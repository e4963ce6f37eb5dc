"""Command lines that must be refused, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lx.cli.main import main
from support.corpus import examples

SMALL = [
    "recipe=plain",
    "tokenizer=word",
    "model=tiny",
    "model.dim=8",
    "model.num_heads=2",
    "model.num_layers=1",
    "hardware=cpu",
    "hardware.precision=32-true",
    "logger=none",
    "trainer.max_epochs=1",
    "data.batch_size=4",
    "data.max_length=16",
    "launch=inline",
]


GOOD = examples(24)


TRAIN = "data.train=good.jsonl"


@dataclass(frozen=True)
class Case:
    """A command line, what its message must say, and the files that it meets."""

    name: str
    command: str
    says: tuple[str, ...]
    files: dict[str, str | bytes] | None = None
    prepare: Callable[[Path], None] | None = None
    small: bool = True

    @property
    def arguments(self) -> list[str]:
        verb, *rest = self.command.split()
        return [verb, *(SMALL if self.small and verb in ("train", "check") else []), *rest]


def given(name: str, command: str, *says: str, **files: str | bytes) -> Case:
    """A training on files; a double underscore in a keyword is the dot of the file's name."""
    content = {key.replace("__", "."): value for key, value in files.items()}
    return Case(name, f"train data=files run_dir=run {command}", says, content)


def setting(name: str, override: str, *says: str) -> Case:
    """An override that good data does not save."""
    return Case(name, f"train data=files data.train=good.jsonl run_dir=run {override}", says)


def of_run(name: str, command: str, *says: str, prepare: Callable[[Path], None] | None = None) -> Case:
    """A command on ``old``, a directory that looks like a run."""
    return Case(name, command, says, prepare=prepare)


def snapshot(path: Path) -> dict[str, bytes | None]:
    """Every file's bytes and every directory, the cache left out."""
    found = (p for p in sorted(path.rglob("*")) if p.relative_to(path).parts[0] != "cache")
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in found}


def lay_out(case: Case, path: Path) -> None:
    for name, content in (case.files or {}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    if case.prepare is not None:
        case.prepare(path)


def assert_clear(
    case: Case, code: int, stderr: str, before: dict[str, bytes | None], after: dict[str, bytes | None]
) -> None:
    assert code == 2, stderr
    assert "Traceback" not in stderr
    message = stderr[stderr.index("lx: error: ") :]
    assert message.count("lx: error: ") == 1
    assert len(message.splitlines()) < 8 and len(message) < 1000, message
    for fragment in case.says:
        assert fragment in message, f"{fragment!r} is not in: {message}"
    assert after == before


def bad_inputs(cases: list[Case]) -> pytest.MarkDecorator:
    """Run a test for each of the cases, which have names of their own."""
    names = [case.name for case in cases]
    assert len(set(names)) == len(names) >= 10
    return pytest.mark.parametrize("case", cases, ids=names)


def assert_refused(case: Case, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Run the command of a case in this process, in a folder of good data, which stays as it is."""
    lay_out(case, folder)
    before = snapshot(folder)
    code = main(case.arguments)
    assert_clear(case, code, capfd.readouterr().err, before, snapshot(folder))
