"""What an evaluation measures on: a run's own test split, or the test split of other data, read with its tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from omegaconf import DictConfig

from lx.config.compose import compose
from lx.config.grammar import as_grammar
from lx.data.corpus.clean import read_clean
from lx.data.corpus.labels import LabelEncoder
from lx.data.sources.base import Source, SourceWithNotes
from lx.data.sources.build import build_source
from lx.data.tokens.table import TokenTable, write_tokens
from lx.data.tokens.tokenizer import Encoded
from lx.errors import LxError, shorten_text
from lx.inference.expert import read_scores
from lx.inference.load import LoadedRun

log = logging.getLogger(__name__)

Experts = NDArray[np.float32] | None
"""Scores [N, C] of a run's expert; None: it has none."""

_FIXED = ("data.max_length",)
_WITHOUT_EFFECT = (
    *(
        f"data.{name}"
        for name in ("train", "validation", "batch_size", "validation_fraction", "split_seed", "on_empty")
    ),
    *(f"hardware.{name}" for name in ("micro_batch", "compile", "num_workers")),
)


class EvaluationRows:
    """The rows that overrides name.

    Args:
        loaded: the run, whose columns and precision hold unless they are overridden.
        overrides: ``data.*`` names other data, read as ``data=files`` unless ``data=`` says otherwise; ``hardware`` and
            ``hardware.*`` say where to compute.

    Attributes:
        cfg: the composed settings of data and hardware.
        is_own: whether these are the run's own test split.

    Raises:
        LxError: an override that makes no sense here.
    """

    def __init__(self, loaded: LoadedRun, overrides: Sequence[str]) -> None:
        overrides = as_grammar(overrides)
        for override in overrides:
            _check_override(override)
        about_data = [override for override in overrides if override.startswith(("data=", "data."))]
        self.is_own = not about_data
        self.cfg = _settings(loaded, overrides, about_data)

    def read(self, loaded: LoadedRun, folder: Path, *, warn: bool = True) -> tuple[TokenTable, Experts]:
        """Return the tokens of the rows, and the scores of the run's expert, if it has one.

        Args:
            loaded: the run.
            folder: where the tokens of other data are put.
            warn: whether to warn of empty texts and the like in other data.

        Raises:
            LxError: data that is missing, or does not fit the run.
        """
        return _own_rows(loaded) if self.is_own else _other_rows(loaded, self.cfg, folder, warn)

    def describe(self) -> dict[str, str]:
        """Say what was measured on, for the file with the metrics."""
        if self.is_own:
            return {"source": "the run's own test split"}
        source = build_source(self.cfg.data)
        return {"source": source.describe("test"), "fingerprint": source.fingerprint()}


def _own_rows(loaded: LoadedRun) -> tuple[TokenTable, Experts]:
    run = loaded.directory
    if not run.test.exists() and not run.test.is_symlink():
        raise LxError(
            f"{run.path} has no test split of its own ({run.test.name} is missing): lx eval {run.quoted} data.test=FILE"
        )
    table = TokenTable(run.trusted(run.test))
    table.check(loaded.tokenizer.vocab_size, loaded.task.fits)
    if loaded.expert is None:
        return table, None
    return table, read_scores(run.trusted(run.linear_test), len(table), loaded.task.num_outputs)


def _other_rows(loaded: LoadedRun, cfg: DictConfig, folder: Path, warn: bool) -> tuple[TokenTable, Experts]:
    source = build_source(cfg.data)
    encoder = loaded.task.trained_encoder(source.class_names)
    expert: list[NDArray[np.float32]] = []
    write_tokens(folder / "test.arrow", _encode_test(loaded, source, encoder, expert, warn), encoder.column_type)
    return TokenTable(folder / "test.arrow"), np.concatenate(expert) if expert else None


def _check_override(override: str) -> None:
    key = override.partition("=")[0]
    if not override.startswith(("data=", "data.", "hardware=", "hardware.")):
        raise LxError(
            f"lx eval takes data and hardware settings, not {shorten_text(override)!r}: the rest is fixed by the run"
        )
    if key in _FIXED:
        raise LxError(f"{key} is what the run was trained with, and lx eval cannot change it: leave it out")
    if key in _WITHOUT_EFFECT:
        raise LxError(
            f"{key} has no effect in lx eval, which reads data.test alone, in batches of its own: leave it out"
        )


def _settings(loaded: LoadedRun, overrides: Sequence[str], about_data: Sequence[str]) -> DictConfig:
    """Compose the command line's settings; columns and precision are those of the run unless they are overridden."""
    names_source = any(override.startswith("data=") for override in about_data)
    cfg = compose([*([] if names_source else ["data=files"]), *overrides])
    overridden = {override.partition("=")[0] for override in overrides}
    if "hardware.precision" not in overridden:
        cfg.hardware.precision = loaded.config["hardware"]["precision"]
    for name in ("text", "text_pair", "label", "label_separator"):
        if not names_source and f"data.{name}" not in overridden and loaded.config["data"].get(name) is not None:
            cfg.data[name] = loaded.config["data"][name]
    if about_data and cfg.data.get("test", "") is None:
        raise LxError("there is no test split to evaluate on: name one with data.test=FILE")
    if "submit" in cfg.hardware:
        raise LxError("lx eval computes on this machine, not in a job of Slurm: choose other hardware, or leave it out")
    return cfg


def _encode_test(
    loaded: LoadedRun, source: Source, encoder: LabelEncoder, expert: list[NDArray[np.float32]], warn: bool
) -> Iterator[tuple[Encoded, pa.Array]]:
    """Tokenize the source's test split, a few thousand rows at a time; rows with an empty text are left out.

    The scores of the run's expert, if it has one, are appended to ``expert``.
    """
    num_empty = num_rows = 0
    for rows in read_clean(source, "test", encoder, learn=False):
        loaded.require_pairs(rows.pairs is not None)
        num_empty, num_rows = num_empty + len(rows.empty), num_rows + len(rows.texts)
        if loaded.expert is not None:
            expert.append(loaded.expert.scores(rows.texts, rows.pairs))
        yield loaded.tokenizer.encode(rows.texts, rows.pairs, loaded.max_length), rows.labels
    if not num_rows:
        raise LxError(f"{source.describe('test')}: all {num_empty:,} texts are empty")
    if not warn:
        return
    for note in source.notes("test") if isinstance(source, SourceWithNotes) else ():
        log.warning("%s", note)
    if num_empty:
        log.warning("%s: %d rows with an empty text were dropped", source.describe("test"), num_empty)
