"""``lx eval RUN``: a run's metrics again, on its own test split or on other data."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from lx.config.compose import compose
from lx.config.instantiate import build
from lx.data.batches import TokenDataset, eval_plan, share_of_evaluation
from lx.data.corpus.labels import LabelTable
from lx.data.sources.base import Source
from lx.data.tokens.table import TokenTable, write_tokens
from lx.data.tokens.tokenizer import Encoded
from lx.distributed.process_group import process_group
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError
from lx.inference.load import Trained, load_trained
from lx.kernels.swap import swap_in_kernels
from lx.report.tables import result_table
from lx.run.directory import Result
from lx.system import hardware
from lx.system.console import console
from lx.system.logging import log_to
from lx.tracking.evaluation import class_rows

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

log = logging.getLogger(__name__)


def evaluate(run_dir: str | Path, overrides: Sequence[str] = (), trust: Sequence[str] = ()) -> Result:
    """Evaluate a run's best weights.

    Args:
        run_dir: the run directory.
        overrides: ``data.*`` names other data, read as ``data=files`` unless ``data=`` says otherwise; ``hardware`` and
            ``hardware.*`` say where to compute. Without data the run's own test split is used, from its directory.
        trust: packages whose classes may be built from the run's configuration.

    Returns:
        Test metrics, scores of each class and the confusion matrix.

    Raises:
        LxError: not a complete run, one that was refused, or data that does not fit it.
    """
    trained = load_trained(run_dir, trust)
    about_data = [override for override in overrides if override.startswith(("data=", "data."))]
    for override in overrides:
        if not override.startswith(("data=", "data.", "hardware=", "hardware.")):
            raise LxError(f"lx eval takes data and hardware settings, not {override!r}: the rest is fixed by the run")
    cfg = _settings(trained, overrides, about_data)
    # The slowest import of all: a refused directory should not have to wait for it, and it sets up logging for itself.
    from lx.training.trainer import evaluation_trainer

    rank_info = RankInfo.from_environment()
    here = hardware.resolve(
        cfg.hardware.accelerator,
        cfg.hardware.precision,
        cfg.hardware.threads,
        rank_info.local_rank,
        rank_info.local_world_size,
    )
    swap_in_kernels(trained.net, here.device, here.product_dtype)
    with ExitStack() as stack:
        stack.enter_context(process_group(rank_info, here.accelerator, trained.run.path))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="lx-eval-"))
        stack.enter_context(log_to(Path(scratch) / "log.txt", on_screen=rank_info.is_first))
        if about_data:
            path = Path(scratch) / "test.arrow"
            write_tokens(path, _encoded(trained, build(cfg.data.source, "data.source", _convert_="all")))
        else:
            path = trained.run.trusted(trained.run.test)
        return _evaluate(trained, TokenTable(path), evaluation_trainer(here, rank_info), rank_info)


def _evaluate(trained: Trained, table: TokenTable, trainer: Trainer, rank_info: RankInfo) -> Result:
    from lx.training.module import TextClassifier

    started = time.perf_counter()
    table.check(trained.tokenizer.vocab_size, len(trained.class_names))
    dataset = TokenDataset(table, trained.tokenizer.pad_id, with_types=trained.has_pairs)
    batches = share_of_evaluation(eval_plan(table.lengths), rank_info.rank, rank_info.world_size)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=None, sampler=batches)
    module = TextClassifier(trained.net, trained.task)
    trainer.test(module, dataloaders=loader, verbose=False)
    summary = module.summaries["test"]
    return Result(
        "finished",
        str(trained.run.path),
        metrics=module.scalars("test"),
        seconds=time.perf_counter() - started,
        per_class=[vars(score) for score in summary.per_class],
        confusion_matrix=summary.confusion,
    )


def _settings(trained: Trained, overrides: Sequence[str], about_data: Sequence[str]) -> DictConfig:
    """The command line's settings; columns and precision are those of the run where it says nothing."""
    chosen = any(override.startswith("data=") for override in about_data)
    cfg = compose([*([] if chosen else ["data=files"]), *overrides])
    given = {override.partition("=")[0] for override in overrides}
    if "hardware.precision" not in given:
        cfg.hardware.precision = trained.config["hardware"]["precision"]
    for name in ("text", "text_pair", "label"):
        if not chosen and f"data.{name}" not in given and trained.config["data"].get(name) is not None:
            cfg.data[name] = trained.config["data"][name]
    if about_data and cfg.data.get("test", "") is None:
        raise LxError("there is no test split to evaluate on: name one with data.test=FILE")
    if cfg.data.get("train", "") is None:
        cfg.data.train = cfg.data.test  # sources ask for one; it is not read
    return cfg


def _encoded(trained: Trained, source: Source) -> Iterator[tuple[Encoded, NDArray[np.int32]]]:
    """The rows of the source's test split, in pieces; rows with an empty text are left out."""
    labels = LabelTable(trained.class_names, by_position=source.class_names is not None)
    num_read = num_kept = 0
    for rows in source.read("test"):
        trained.require_pairs(rows.pairs is not None)
        texts = [(text or "").strip() for text in rows.texts]
        pairs = None if rows.pairs is None else [(pair or "").strip() for pair in rows.pairs]
        keep = [i for i, text in enumerate(texts) if text and (pairs is None or pairs[i])]
        ids = labels.encode([rows.labels[i] for i in keep], learn=False)
        for unknown in np.flatnonzero(ids < 0):
            row = keep[unknown]
            raise labels.refusal(source.locate("test", rows.place(row)), rows.labels[row])
        num_read, num_kept = num_read + len(texts), num_kept + len(keep)
        seconds = None if pairs is None else [pairs[i] for i in keep]
        yield trained.tokenizer.encode([texts[i] for i in keep], seconds, trained.max_length), ids
    if not num_kept:
        raise LxError(f"{source.describe('test')}: all {num_read:,} texts are empty")
    if num_kept < num_read:
        log.warning("%s: %d rows with an empty text were dropped", source.describe("test"), num_read - num_kept)


def show(result: Result, class_names: Sequence[str]) -> None:
    """Print the metrics and the worst classes."""
    rows = class_rows(class_names, result.confusion_matrix)
    console().print(result_table(result.metrics, rows, result.seconds))
