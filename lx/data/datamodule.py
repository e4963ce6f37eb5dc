"""Text to batches: source -> splits -> tokenizer -> token ids in Arrow -> loaders."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from lx.config.schema import DataSettings
from lx.data.batches import (
    Batch,
    GlobalBatch,
    TokenDataset,
    TrainDataset,
    TrainSampler,
    batches_per_epoch,
    epoch_plan,
    eval_plan,
    padding_share,
    share_of_evaluation,
)
from lx.data.corpus.corpus import Corpus, Split, load_corpus
from lx.data.sources.base import Source
from lx.data.tokens.table import TokenTable, write_tokens
from lx.data.tokens.tokenizer import Encoded, Recipe, Tokenizer, train
from lx.errors import LxError
from lx.system.cache import cache_home, digest
from lx.system.files import atomic_write
from lx.system.processes import end_with
from lx.system.progress import track

log = logging.getLogger(__name__)
_FORMAT = 1  # raise it when the meaning of cached tokens changes
_CHUNK = 8192  # texts encoded at a time


@dataclass(frozen=True)
class LoaderOptions:
    """How batches reach the model; none of it changes what is learned, but for ``seed`` and the limits.

    Attributes:
        seed: of the order of the batches.
        micro_batch: examples per forward pass; None: all of the rank's share of a global batch.
        num_workers: processes that assemble batches.
        rank: of this process, which decides its share of every batch.
        world_size: number of ranks.
        limit_train_batches: global batches an epoch; None: all.
        limit_eval_batches: batches an evaluation; None: all.
    """

    seed: int = 0
    micro_batch: int | None = None
    num_workers: int = 0
    rank: int = 0
    world_size: int = 1
    limit_train_batches: int | None = None
    limit_eval_batches: int | None = None


class TextDataModule(LightningDataModule):
    """Prepares a corpus for a classifier and serves its batches.

    Attributes, once :meth:`prepare_data` and :meth:`setup` have run:
        corpus: the splits, class names and what a person should know about them.
        tokenizer: trained on the training split alone.
        tables: the token ids of each split.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    tables: dict[str, TokenTable]

    def __init__(
        self, source: Source, recipe: Recipe, options: DataSettings, loaders: LoaderOptions | None = None
    ) -> None:
        super().__init__()
        self.source = source
        self.recipe = recipe
        self._recipe_key = recipe.fingerprint()  # taken now: training changes the recipe's tokenizer
        self.options = options
        self.loaders = loaders or LoaderOptions()
        self.cache = cache_home(options.cache_dir)
        self._start = (0, 0)

    def prepare_data(self) -> None:
        """Read, clean, split, train the tokenizer and encode: whatever of it is not in the cache yet."""
        if hasattr(self, "tokenizer"):
            return  # Lightning calls it again at every stage
        self.corpus = load_corpus(
            self.source,
            validation_fraction=self.options.validation_fraction,
            seed=self.options.split_seed,
            on_empty=self.options.on_empty,
            cache_dir=self.cache,
        )
        self.tokenizer = self._tokenizer()
        for name, split in self.corpus.splits.items():
            path = self._token_path(name)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_tokens(path, self._encoded(name, split))

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

    @property
    def has_pairs(self) -> bool:
        """Whether the texts come in pairs."""
        return self.corpus.splits["train"].has_pairs

    @property
    def num_token_types(self) -> int:
        """2 where texts come in pairs and the tokenizer tells the second from the first, else 1."""
        return 2 if any(table.has_pairs for table in self.tables.values()) else 1

    @property
    def class_counts(self) -> list[int]:
        """Training examples of each class, in label-id order."""
        counts = np.bincount(self.tables["train"].labels, minlength=len(self.corpus.class_names))
        return [int(count) for count in counts]

    @property
    def steps_per_epoch(self) -> int:
        """Global batches, and so optimizer steps, of an epoch."""
        num_batches = batches_per_epoch(len(self.tables["train"]), self.options.batch_size)
        return min(num_batches, self.loaders.limit_train_batches or num_batches)

    @property
    def fingerprint(self) -> str:
        """Equal for equal token ids in equal batches."""
        return self._token_key()

    def start_at(self, epoch: int, batch: int) -> None:
        """Leave out the global batches of an epoch that a resumed run has trained on.

        Args:
            epoch: which is under way, from 0.
            batch: how many of its global batches have been trained on.
        """
        self._start = (epoch, batch)

    def set_micro_batch_size(self, micro_batch: int) -> None:
        """Limit the examples of a forward pass."""
        self.loaders = replace(self.loaders, micro_batch=micro_batch)

    def longest(self, count: int) -> Batch:
        """The longest training examples, as one batch."""
        return self._dataset("train")[np.argsort(self.tables["train"].lengths, kind="stable")[-count:]]

    def train_padding_share(self) -> float:
        """Share of padding among the tokens of the first epoch."""
        lengths = self.tables["train"].lengths
        return padding_share(lengths, epoch_plan(lengths, self.options.batch_size, self.loaders.seed, 0))

    def train_dataloader(self) -> DataLoader[GlobalBatch]:
        """This rank's share of the global batches of the epoch under way, in the order of the plan."""
        dataset = TrainDataset(self._dataset("train"))
        epoch, batch = self._start
        if self.trainer is not None and self.trainer.current_epoch > epoch:
            epoch, batch = self.trainer.current_epoch, 0
        return self._loader(dataset, self._train_sampler(epoch, batch))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation example once."""
        return self.eval_dataloader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Every test example once."""
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> DataLoader[Batch]:
        """Every example of a split on exactly one rank, in batches that depend on the split alone."""
        dataset = self._dataset(split)
        batches = eval_plan(dataset.table.lengths, self.loaders.limit_eval_batches)
        return self._loader(dataset, share_of_evaluation(batches, self.loaders.rank, self.loaders.world_size))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches know how to move themselves."""
        return batch.to(device)

    def _train_sampler(self, epoch: int, skip: int) -> TrainSampler:
        loaders = self.loaders
        return TrainSampler(
            self.tables["train"].lengths,
            self.options.batch_size,
            loaders.seed,
            epoch,
            skip,
            loaders.limit_train_batches,
            loaders.micro_batch,
            loaders.rank,
            loaders.world_size,
        )

    def _dataset(self, split: str) -> TokenDataset:
        return TokenDataset(self.tables[split], self.tokenizer.pad_id, with_types=self.num_token_types > 1)

    def _loader(self, dataset: Any, sampler: Sampler[Any] | list[NDArray[np.int64]]) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=None,  # the sampler hands out whole batches
            sampler=sampler,
            num_workers=self.loaders.num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=partial(_end_with, os.getpid()),
        )

    def _tokenizer(self) -> Tokenizer:
        """The tokenizer, trained on the training split alone, or read from the cache."""
        key = digest(self.corpus.fingerprint, self._recipe_key)
        path = self.cache / "tokenizers" / f"{key}.json"
        if not path.exists():
            log.info("training the tokenizer on %d texts", len(self.corpus.splits["train"]))
            tokenizer = train(self.recipe, lambda: _texts(self.corpus.splits["train"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_text(tokenizer.to_json(), encoding="utf-8")
        return Tokenizer.load(path)

    def _token_path(self, split: str) -> Path:
        return self.cache / "tokens" / self._token_key() / f"{split}.arrow"

    def _token_key(self) -> str:
        return digest(self.corpus.fingerprint, self.tokenizer.to_json(), self.options.max_length, _FORMAT)

    def _encoded(self, name: str, split: Split) -> Iterator[tuple[Encoded, NDArray[np.int32]]]:
        start = 0
        with track(f"tokenizing {name}", len(split), "texts") as advance:
            for texts, pairs in split.texts(_CHUNK):
                labels = split.labels[start : start + len(texts)]
                yield self.tokenizer.encode(texts, pairs, self.options.max_length), labels
                start += len(texts)
                advance(len(texts))


def _end_with(parent: int, worker: int) -> None:
    """Called in a new process that assembles batches, with its number: none outlives the training."""
    if os.getppid() == parent:  # not so under the start method forkserver, where torch looks after this itself
        end_with(parent)


def _texts(split: Split) -> Iterator[str]:
    """Every text of a split, and the text paired with it."""
    for texts, pairs in split.texts(_CHUNK):
        yield from texts
        yield from pairs or ()
