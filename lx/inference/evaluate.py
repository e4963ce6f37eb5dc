"""Computes a run's metrics again, on its own test split or on other data."""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from lx.config.compose import compose
from lx.config.grammar import as_grammar
from lx.data.batches import TokenDataset
from lx.data.corpus.clean import read_clean
from lx.data.corpus.labels import LabelEncoder
from lx.data.plan import eval_plan, rank_batches
from lx.data.sources.base import Source, SourceWithNotes
from lx.data.sources.build import build_source
from lx.data.tokens.table import TokenTable, write_tokens
from lx.data.tokens.tokenizer import Encoded
from lx.distributed.process_group import process_group
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError, shorten_text
from lx.inference.expert import read_log_probabilities
from lx.inference.load import LoadedRun, load_run
from lx.kernels.swap import swap_in_kernels
from lx.report.tables import result_table
from lx.run.result import Result
from lx.system import console
from lx.system.hardware import resolve
from lx.system.logging import log_to
from lx.tasks.base import Evaluation, Task

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

log = logging.getLogger(__name__)

Experts = NDArray[np.float32] | None
"""Log-probabilities [N, C] of a run's expert; None: it has none."""

_FIXED = ("data.max_length",)
_WITHOUT_EFFECT = (
    *(
        f"data.{name}"
        for name in ("train", "validation", "batch_size", "validation_fraction", "split_seed", "on_empty")
    ),
    *(f"hardware.{name}" for name in ("micro_batch", "compile", "num_workers")),
)


def evaluate(run_dir: str | Path, overrides: Sequence[str] = (), trust: Sequence[str] = ()) -> Result:
    """Evaluate a run's best weights.

    Args:
        run_dir: the run directory.
        overrides: see :func:`evaluate_loaded`.
        trust: packages whose classes may be built from the run's configuration.

    Raises:
        LxError: not a complete run, one that was refused, or data that does not fit it.
    """
    return evaluate_loaded(load_run(run_dir, trust), overrides)


def evaluate_loaded(loaded: LoadedRun, overrides: Sequence[str] = ()) -> Result:
    """Evaluate a run that was loaded.

    Args:
        loaded: the run.
        overrides: ``data.*`` names other data, read as ``data=files`` unless ``data=`` says otherwise; ``hardware`` and
            ``hardware.*`` say where to compute. Without data the run's own test split is used, from its directory.

    Returns:
        Test metrics, and the details that the task adds.

    Raises:
        LxError: an override that makes no sense here, or data that does not fit the run.
    """
    overrides = as_grammar(overrides)
    for override in overrides:
        _check_override(override)
    about_data = [override for override in overrides if override.startswith(("data=", "data."))]
    cfg = _settings(loaded, overrides, about_data)
    own_rows = None if about_data else _own_rows(loaded)
    # The slowest import of all: a refused directory should not have to wait for it, and it sets up logging for itself.
    from lx.training.trainer import evaluation_trainer

    rank_info = RankInfo.from_environment()
    hardware = resolve(
        cfg.hardware.accelerator,
        cfg.hardware.precision,
        cfg.hardware.threads,
        rank_info.local_rank,
        rank_info.local_world_size,
    )
    swap_in_kernels(loaded.net, hardware.device, hardware.product_dtype)
    with ExitStack() as stack:
        stack.enter_context(process_group(rank_info, hardware.device, loaded.directory.path))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="lx-eval-"))
        stack.enter_context(log_to(Path(scratch) / "log.txt", on_screen=rank_info.is_first))
        rows = own_rows or _other_rows(loaded, cfg, Path(scratch))
        trainer = evaluation_trainer(hardware, rank_info)
        result = _evaluate(loaded, *rows, trainer, rank_info, hardware.pad_multiple)
        data = _describe_data(cfg, about_data)
        result.details = {"data": {**data, "rows": len(rows[0])}, **result.details}
        return result


def _describe_data(cfg: DictConfig, about_data: Sequence[str]) -> dict[str, str]:
    """Say what was measured on, for the file with the metrics."""
    if not about_data:
        return {"source": "the run's own test split"}
    source = build_source(cfg.data)
    return {"source": source.describe("test"), "fingerprint": source.fingerprint()}


def file_name(result: Result) -> str:
    """Name the file of an evaluation in the run directory: each data has its own."""
    data = result.details["data"]
    if "fingerprint" not in data:
        return "eval.json"
    name = re.sub(r"\W+", "_", Path(data["source"]).stem).strip("_")[:40]
    return f"eval-{name}-{data['fingerprint'][:8]}.json"


def _own_rows(loaded: LoadedRun) -> tuple[TokenTable, Experts]:
    """Read the run's own test split, and what its expert says of it."""
    run = loaded.directory
    if not run.test.exists() and not run.test.is_symlink():
        raise LxError(
            f"{run.path} has no test split of its own ({run.test.name} is missing): lx eval {run.quoted} data.test=FILE"
        )
    table = TokenTable(run.trusted(run.test))
    table.check(loaded.tokenizer.vocab_size, loaded.task.fits)
    if loaded.expert is None:
        return table, None
    return table, read_log_probabilities(run.trusted(run.linear_test), len(table), loaded.task.num_outputs)


def _other_rows(loaded: LoadedRun, cfg: DictConfig, folder: Path) -> tuple[TokenTable, Experts]:
    """Tokenize the test split of other data into a folder, and ask the run's expert, if it has one."""
    source = build_source(cfg.data)
    encoder = loaded.task.trained_encoder(source.class_names)
    said: list[NDArray[np.float32]] = []
    write_tokens(folder / "test.arrow", _encode_test(loaded, source, encoder, said), encoder.column_type)
    return TokenTable(folder / "test.arrow"), np.concatenate(said) if said else None


def _evaluate(
    loaded: LoadedRun,
    table: TokenTable,
    expert: Experts,
    trainer: Trainer,
    rank_info: RankInfo,
    pad_multiple: int,
) -> Result:
    from lx.training.module import TextClassifier

    started = time.perf_counter()
    pad_id, collate = loaded.tokenizer.pad_id, loaded.task.collate
    dataset = TokenDataset(table, pad_id, loaded.has_pairs, collate, pad_multiple, expert)
    batches = rank_batches(eval_plan(table.lengths), rank_info.rank, rank_info.world_size)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=None, sampler=batches)
    module = TextClassifier(loaded.net, loaded.task)
    trainer.test(module, dataloaders=loader, verbose=False)
    return Result(
        "finished",
        str(loaded.directory.path),
        metrics=module.scalars("test"),
        seconds=time.perf_counter() - started,
        details=module.evaluations["test"].details,
    )


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
    loaded: LoadedRun, source: Source, encoder: LabelEncoder, said: list[NDArray[np.float32]]
) -> Iterator[tuple[Encoded, pa.Array]]:
    """Tokenize the source's test split, a few thousand rows at a time; rows with an empty text are left out.

    What the run's expert says of the rows, if it has one, is appended to ``said``.
    """
    num_empty = num_rows = 0
    for rows in read_clean(source, "test", encoder, learn=False):
        loaded.require_pairs(rows.pairs is not None)
        num_empty, num_rows = num_empty + len(rows.empty), num_rows + len(rows.texts)
        if loaded.expert is not None:
            said.append(loaded.expert.log_probabilities(rows.texts, rows.pairs))
        yield loaded.tokenizer.encode(rows.texts, rows.pairs, loaded.max_length), rows.labels
    if not num_rows:
        raise LxError(f"{source.describe('test')}: all {num_empty:,} texts are empty")
    for note in source.notes("test") if isinstance(source, SourceWithNotes) else ():
        log.warning("%s", note)
    if num_empty:
        log.warning("%s: %d rows with an empty text were dropped", source.describe("test"), num_empty)


def show(result: Result, task: Task) -> None:
    """Print the metrics and the task's tables."""
    tables = task.show(Evaluation(result.metrics, result.details))
    console.show(result_table(result.metrics, result.seconds), *tables)
