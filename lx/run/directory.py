"""The files of a run directory: written atomically, read back without trusting them.

A run directory holds everything that evaluation and prediction need::

    config.yaml       the resolved configuration
    resume.yaml       the configuration of a resumption that has not started yet
    recipe.json       the reason for each value that the data has chosen for a setting that was `auto`
    environment.json  run id, overrides, git revision, platform, versions of Python and packages
    model.json        sizes that follow from the data; with the config's node they are enough to rebuild the network
    micro_batch.json  how many examples fit a GPU's memory at a time, and on which device that was measured
    labels.json       class names, in label-id order
    tokenizer.json    in the format of the tokenizers library
    test.arrow        token ids and labels of the test split
    linear.pt         tensors of the linear expert, of a run that has one
    linear_test.npy   its scores of the test split
    checkpoints/      last.ckpt, previous.ckpt (training states), best.ckpt (weights of the best validation)
    metrics.csv       one row per logged step
    log.txt           messages
    predictions.arrow the best weights' predictions for each row of validation and test: see lx/run/predictions.py
    mistakes.json     the gravest mistakes of each split, with their texts: see lx/run/mistakes.py
    result.json       status and final metrics
    reports.json      objectives of the validations, of a trial that its sweep judges
    verdict.json      what the sweep has decided about that trial
    slurm/            job script and logs, of a run submitted to Slurm
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lx.config.instantiate import rename_targets
from lx.errors import LxError, shorten_text
from lx.run.result import Result
from lx.system.files import as_argument, atomic_write, atomic_write_json
from lx.system.plain_data import read_json, read_yaml

_WAIT_S = 10.0  # for another machine that makes the directory


class RunDirectory:
    """The files of one run. Reading refuses links, so that nothing outside the directory is ever read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.resumption = path / "resume.yaml"
        self.recipe = path / "recipe.json"
        self.environment = path / "environment.json"
        self.model = path / "model.json"
        self.micro_batch = path / "micro_batch.json"
        self.labels = path / "labels.json"
        self.tokenizer = path / "tokenizer.json"
        self.test = path / "test.arrow"
        self.linear = path / "linear.pt"
        self.linear_test = path / "linear_test.npy"
        self.metrics = path / "metrics.csv"
        self.log = path / "log.txt"
        self.predictions = path / "predictions.arrow"
        self.mistakes = path / "mistakes.json"
        self.result = path / "result.json"
        self.reports = path / "reports.json"
        self.verdict = path / "verdict.json"
        self.lock = path / ".lock"
        self.last = path / "checkpoints" / "last.ckpt"
        self.previous = path / "checkpoints" / "previous.ckpt"
        self.best = path / "checkpoints" / "best.ckpt"

    def best_at(self, step: int) -> Path:
        """The weights of the validation after a step, where ``trainer.keep_best`` keeps several."""
        return self.path / "checkpoints" / f"best-{step}.ckpt"

    @property
    def quoted(self) -> str:
        """The path as a shell reads it, for commands in messages."""
        return shlex.quote(as_argument(self.path))

    @property
    def trained(self) -> bool:
        """Whether the run has a checkpoint."""
        return self.best.exists() or self.last.exists()

    def require_free(self) -> None:
        """Raise LxError if the directory holds a run already, or if this user cannot write it."""
        if taken := next((path for path in (*self.files(), self.last.parent) if path.exists()), None):
            raise LxError(
                f"{self.path} already holds a run, or part of one ({taken.name}): "
                "choose another run_dir, or remove that one first"
            )
        parent = next(path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists())
        try:
            with TemporaryDirectory(prefix=".lx-", dir=parent):  # root may write everywhere but in /proc and the like
                pass
        except OSError as error:
            raise LxError(
                f"cannot write the run directory {self.path}: {parent} is no directory that you may write to"
            ) from error

    def create(self) -> None:
        """Make the directory; raise LxError if it holds a run already, or cannot be written."""
        self.require_free()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.last.parent.mkdir()
        except OSError as error:
            raise LxError(f"cannot write the run directory {self.path}: {error.strerror or error}") from error

    def wait_for(self, config: Mapping[str, Any]) -> bool:
        """Wait up to 10 s for another machine to make this directory; return whether it did, for the same run."""
        deadline = time.monotonic() + _WAIT_S
        while self.last.parent.exists() and not self.result.exists() and not self.trained:
            if self.config.exists():
                return self.read_config() == config
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return False

    def discard(self) -> None:
        """Remove the files of a run that failed before it trained, so that its name is free again; leave others."""
        shutil.rmtree(self.last.parent, ignore_errors=True)
        for path in self.files():
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: it holds files of others
            self.path.rmdir()

    def files(self) -> tuple[Path, ...]:
        """Every file of the run but its checkpoints."""
        paths = [path for path in vars(self).values() if path is not self.path]
        return tuple(path for path in paths if path.parent == self.path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Save the resolved configuration."""
        self._write_yaml(self.config, config)

    def propose(self, config: Mapping[str, Any]) -> None:
        """Save the configuration of a resumption; it becomes the run's own once training has started."""
        self._write_yaml(self.resumption, config)

    def _write_yaml(self, path: Path, config: Mapping[str, Any]) -> None:
        import yaml

        with atomic_write(path) as temporary:
            temporary.write_text(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True), encoding="utf-8")

    def write_result(self, result: Result) -> None:
        """Write ``result.json``."""
        atomic_write_json(self.result, result.to_json())

    def next_config(self) -> dict[str, Any]:
        """Read the configuration to train with: that of a resumption that is about to start, else the run's."""
        return self.read_config(self.resumption if self.resumption.exists() else self.config)

    def read_config(self, path: Path | None = None) -> dict[str, Any]:
        """Read the configuration; raise LxError unless it is plain data. Interpolations are refused, never resolved."""
        path = path or self.config
        config = read_yaml(self.trusted(path))
        if not isinstance(config, dict):
            raise LxError(f"{path} does not hold a configuration")
        _refuse_interpolations(config, path)
        renamed: dict[str, Any] = rename_targets(config)
        return renamed

    def read_json(self, path: Path) -> Any:
        """Read one of the directory's JSON files; raise LxError if it is missing, a link, or not JSON."""
        return read_json(self.trusted(path))

    def read_sizes(self) -> dict[str, Any]:
        """Read ``model.json``; raise LxError if it is not plain data, or a size is not a whole number above 0."""
        sizes = self.read_json(self.model)
        if not isinstance(sizes, dict):
            raise LxError(f"{self.model} does not hold the sizes of a model")
        for name in ("vocab_size", "num_outputs", "num_token_types"):
            if type(sizes.get(name)) is not int or sizes[name] < 1:
                raise LxError(
                    f"{self.model}: {name} must be a whole number above 0, not {shorten_text(repr(sizes.get(name)))}"
                )
        _refuse_interpolations(sizes, self.model)
        return sizes

    def read_label_set(self) -> dict[str, Any]:
        """Return the keyword arguments of the run's task that follow from the training labels, as plain data.

        Raises:
            LxError: missing or not plain data; what it holds is for the task to check.
        """
        sizes = self.read_sizes()
        has_names = self.labels.is_symlink() or self.labels.exists()
        names = {"class_names": self.read_json(self.labels)} if has_names else {}
        if "class_counts" in sizes:  # a run of lx 0.1 before there were other tasks than classification
            return {**names, "class_counts": sizes["class_counts"]}
        label_set = sizes.get("label_set")
        if not isinstance(label_set, dict):
            raise LxError(f"{self.model} does not say the label_set of the run's task")
        return {**label_set, **names}

    def read_reasons(self) -> dict[str, str]:
        """Return the reason for each value that the data has chosen, by key."""
        reasons = self.read_json(self.recipe) if self.recipe.exists() else {}
        if not isinstance(reasons, dict):
            raise LxError(f"{self.recipe} does not hold the reasons of a recipe")
        return {str(key): str(reason) for key, reason in reasons.items()}

    def read_result(self) -> Result:
        """Read ``result.json``."""
        return Result.from_json(self.read_json(self.result))

    def trusted(self, path: Path) -> Path:
        """Return ``path``; raise LxError if it is missing, or anything but a regular file of this directory."""
        if not self.path.is_dir():
            raise LxError(f"no run directory {self.path}")
        if not path.exists() and not path.is_symlink():
            raise LxError(f"{self.path} is not a complete run: {path.relative_to(self.path)} is missing")
        if path.resolve() != self.path.resolve() / path.relative_to(self.path) or not path.is_file():
            raise LxError(f"{path} is a link or not a regular file: a run directory must hold its own files")
        return path


def _refuse_interpolations(node: object, path: Path) -> None:
    if isinstance(node, dict | list):
        for child in [*node, *node.values()] if isinstance(node, dict) else node:
            _refuse_interpolations(child, path)
    if isinstance(node, str) and "${" in node:
        raise LxError(
            f"{path} holds an interpolation ({shorten_text(node)!r}): a run's configuration is resolved, plain data"
        )
