"""Text to batches: source -> corpus -> tokenizer -> token table -> loaders."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler
from typing_extensions import override

from lx.config.schema import DataSettings
from lx.data.batches import Batch, GlobalBatch, TokenDataset, TrainDataset
from lx.data.corpus.corpus import Corpus, load_corpus
from lx.data.corpus.labels import LabelEncoder
from lx.data.corpus.storage import SplitView
from lx.data.expert import ExpertTarget, FittedExpert, fit_expert
from lx.data.plan import (
    LoaderOptions,
    TrainSampler,
    batches_per_epoch,
    epoch_plan,
    eval_plan,
    padding_share,
    rank_batches,
)
from lx.data.sources.base import Source
from lx.data.tokens.table import TokenTable, write_tokens
from lx.data.tokens.tokenizer import Encoded, Tokenizer, TokenizerSpec, train
from lx.errors import LxError
from lx.linear.settings import ExpertSettings
from lx.system.cache import cache_home, digest
from lx.system.files import atomic_write
from lx.system.processes import end_with
from lx.system.progress import track

log = logging.getLogger(__name__)
_FORMAT = 1  # raise it when the meaning of cached tokens changes: runs trained on the others cannot be resumed


class TextDataModule(LightningDataModule):
    """Prepares a corpus for training and serves its batches.

    Args:
        source: where the rows come from.
        spec: the tokenizer, not trained yet.
        label_encoder: builds the task's label encoder from the class names that the source declares.
        options: turn the source into batches.
        loaders: how batches reach the model.

    Attributes:
        corpus: the splits and facts about them; after :meth:`prepare_data`.
        tokenizer: trained on the training split alone; after :meth:`prepare_data`.
        tables: the tokens and labels of each split; after :meth:`setup`.
        collate_labels: turns the labels of a batch into a tensor; to be set once the task is built.
        expert: fitted by :meth:`fit_expert`; None: there is none.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    tables: dict[str, TokenTable]
    collate_labels: Callable[[pa.Array], torch.Tensor]

    def __init__(
        self,
        source: Source,
        spec: TokenizerSpec,
        label_encoder: Callable[[Sequence[str] | None], LabelEncoder],
        options: DataSettings,
        loaders: LoaderOptions | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.spec = spec
        self._spec_key = spec.fingerprint()  # taken now: training changes the trainer's settings
        self.label_encoder = label_encoder
        self.options = options
        self.loaders = loaders or LoaderOptions()
        self.cache = cache_home(options.cache_dir)
        self.expert: FittedExpert | None = None
        self._start = (0, 0)

    def prepare_data(self) -> None:
        """Read, clean and split the rows, train the tokenizer, and encode; what is cached already is not done again."""
        if hasattr(self, "tokenizer"):
            return  # Lightning calls it again at every stage
        encoder = self.label_encoder(self.source.class_names)
        self.corpus = load_corpus(self.source, encoder, self.options)
        self.tokenizer = self._tokenizer()
        for name, split in self.corpus.splits.items():
            path = self._token_path(name)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_tokens(path, self._encoded(name, split), encoder.column_type)

    def setup(self, stage: str | None = None) -> None:
        """Map the token ids of every split."""
        if hasattr(self, "tables"):
            return
        self.tables = {name: TokenTable(self._token_path(name)) for name in self.corpus.splits}
        if self.options.batch_size > len(self.tables["train"]):
            raise LxError(
                f"data.batch_size={self.options.batch_size} is larger than the training split "
                f"({len(self.tables['train'])} examples): choose a smaller one"
            )

    def fit_expert(self, settings: ExpertSettings, target: ExpertTarget) -> None:
        """Fit an expert beside the network on the training split; see :func:`lx.data.expert.fit_expert`."""
        self.expert = fit_expert(self.corpus, settings, target, self.cache)

    @property
    def has_pairs(self) -> bool:
        """Whether the texts come in pairs."""
        return self.corpus.splits["train"].has_pairs

    @property
    def num_token_types(self) -> int:
        """2 where texts come in pairs and the tokenizer tells the second from the first, else 1."""
        return 2 if any(table.has_pairs for table in self.tables.values()) else 1

    @property
    def steps_per_epoch(self) -> int:
        """Global batches, and so optimizer steps, of an epoch."""
        num_batches = batches_per_epoch(len(self.tables["train"]), self.options.batch_size)
        return min(num_batches, self.loaders.limit_train_batches or num_batches)

    @property
    def fingerprint(self) -> str:
        """A digest of what decides the token ids and their batches."""
        return digest(self.corpus.fingerprint, self.tokenizer.to_json(), self.options.max_length, _FORMAT)

    def start_at(self, epoch: int, batch: int) -> None:
        """Go on in an epoch, counted from 0, after the global batches of it that a resumed run has trained on."""
        self._start = (epoch, batch)

    def set_micro_batch_size(self, micro_batch: int) -> None:
        """Limit the examples of a forward pass."""
        self.loaders = replace(self.loaders, micro_batch=micro_batch)

    def longest(self, count: int) -> Batch:
        """Return the longest training examples as one batch."""
        return self._dataset("train")[np.argsort(self.tables["train"].lengths, kind="stable")[-count:]]

    def batch(self, split: str, rows: NDArray[np.int64]) -> Batch:
        """Return some examples of a split as one batch."""
        return self._dataset(split)[rows]

    def train_padding_share(self) -> float:
        """Return the share of padding among the tokens of the first epoch."""
        lengths = self.tables["train"].lengths
        batches = epoch_plan(lengths, self.options.batch_size, self.loaders.seed, 0)
        return padding_share(lengths, batches, self.loaders.pad_multiple)

    def train_dataloader(self) -> DataLoader[GlobalBatch]:
        """This rank's examples of the global batches of the current epoch, in the order of the plan."""
        tokens = self._dataset("train")
        epoch, batch = self._start
        if self.trainer is not None and self.trainer.current_epoch > epoch:
            epoch, batch = self.trainer.current_epoch, 0
        sampler = TrainSampler(tokens.table.lengths, self.options.batch_size, self.loaders, epoch, batch)
        return self._loader(TrainDataset(tokens), sampler)

    @override
    def val_dataloader(self) -> DataLoader[Batch]:
        return self.eval_dataloader("validation")

    @override
    def test_dataloader(self) -> DataLoader[Batch]:
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> DataLoader[Batch]:
        """Every example of a split on exactly one rank, in batches that depend on the split alone."""
        dataset = self._dataset(split)
        batches = eval_plan(dataset.table.lengths, self.loaders.limit_eval_batches)
        return self._loader(dataset, rank_batches(batches, self.loaders.rank, self.loaders.world_size))

    @override
    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch.to(device)

    def _dataset(self, split: str) -> TokenDataset:
        table, expert = self.tables[split], self.expert_scores(split)
        pad_id, multiple = self.tokenizer.pad_id, self.loaders.pad_multiple
        return TokenDataset(table, pad_id, self.num_token_types > 1, self.collate_labels, multiple, expert)

    def expert_scores(self, split: str) -> NDArray[np.float32] | None:
        """Map an expert's scores [N, C] of a split into memory; None if there are none."""
        path = self.expert.scores.get(split) if self.expert else None
        return None if path is None else np.load(path, mmap_mode="r")

    def _loader(self, dataset: Any, sampler: Sampler[Any] | list[NDArray[np.int64]]) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=None,  # the sampler yields whole batches
            sampler=sampler,
            num_workers=self.loaders.num_workers,
            pin_memory=self.loaders.pin_memory,
            worker_init_fn=partial(_end_with, os.getpid()),
        )

    def _tokenizer(self) -> Tokenizer:
        """Train the tokenizer on the training split alone, or read it from the cache."""
        key = digest(self.corpus.fingerprint, self._spec_key)
        path = self.cache / "tokenizers" / f"{key}.json"
        if not path.exists():
            log.info("training the tokenizer on %d texts", len(self.corpus.splits["train"]))
            tokenizer = train(self.spec, lambda: _texts(self.corpus.splits["train"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_text(tokenizer.to_json(), encoding="utf-8")
        return Tokenizer.load(path)

    def _token_path(self, split: str) -> Path:
        return self.cache / "tokens" / self.fingerprint / f"{split}.arrow"

    def _encoded(self, name: str, split: SplitView) -> Iterator[tuple[Encoded, pa.Array]]:
        start, labels = 0, split.labels
        with track(f"tokenizing {name}", len(split), "texts") as advance:
            for texts, pairs in split.texts():
                yield self.tokenizer.encode(texts, pairs, self.options.max_length), labels.slice(start, len(texts))
                start += len(texts)
                advance(len(texts))


def _end_with(parent: int, worker: int) -> None:
    """Make a new data-loader worker, which is called with its number, end together with the training process."""
    if os.getppid() == parent:  # not under the start method forkserver, where torch does it
        end_with(parent)


def _texts(split: SplitView) -> Iterator[str]:
    """Yield every text of a split, and the text paired with it."""
    for texts, pairs in split.texts():
        yield from texts
        yield from pairs or ()
