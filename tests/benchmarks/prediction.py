"""Texts a second: lx's prediction against transformers' pipeline with a BERT of the same size.

    python tests/benchmarks/prediction.py runs/NAME test.jsonl --rounds 5

The run is loaded once, as ``lx predict`` does it; what is timed goes from a list of texts to their labels, tokenization
included. lx computes in the precision of the run, and in float32 too if that is another; the pipeline computes in
float32, its default, at batch sizes 1 (on a part of the texts), 8 and 64. Its BERT has random weights and is given the
token ids that lx's network is given. All share one process: its threads, and the settings of its memory that lx made.
Ratios are those to the fastest pipeline of the same round. Needs lx[pretrained].
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from lx.predict import Classifier, load

hf: Any = transformers  # not annotated throughout
BATCH_SIZES = (1, 8, 64)
FEW = 1000  # texts for batch size 1
WARMUP = 64  # texts labelled before anything is timed


@dataclass(frozen=True)
class Contender:
    """Something that labels texts.

    Attributes:
        name: for people.
        texts: those that it is given.
        label: labels them.
    """

    name: str
    texts: list[str]
    label: Callable[[list[str]], Any]

    def rate(self) -> float:
        """Texts a second, this time."""
        begun = time.perf_counter()
        found = self.label(self.texts)
        seconds = time.perf_counter() - begun
        assert len(found) == len(self.texts)
        return len(self.texts) / seconds


def spread(texts: list[str], count: int) -> list[str]:
    """So many of the texts, from all parts of the file."""
    return [texts[i * len(texts) // count] for i in range(count)] if len(texts) > count else texts


def fast_tokenizer(classifier: Classifier) -> Any:
    """transformers' tokenizer of the run's ``tokenizer.json``."""
    trained = classifier.trained
    return hf.PreTrainedTokenizerFast(
        tokenizer_file=str(trained.run.tokenizer),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=trained.max_length,
    )


def bert(classifier: Classifier) -> Any:
    """transformers' BERT for classification, as large as the run's network, with random weights."""
    trained = classifier.trained
    size = trained.config["model"]
    if "dim" not in size:
        sys.exit(f"{trained.run.path} is not a run of one of lx's own Transformers: there is no BERT of its size")
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=trained.tokenizer.vocab_size,
        hidden_size=size["dim"],
        num_hidden_layers=size["num_layers"],
        num_attention_heads=size["num_heads"],
        intermediate_size=4 * size["dim"],
        max_position_embeddings=trained.max_length,
        pad_token_id=trained.tokenizer.pad_id,
        num_labels=len(classifier.class_names),
    )
    return hf.BertForSequenceClassification(config).float().eval()


def pipelines(classifier: Classifier, texts: list[str]) -> list[Contender]:
    """transformers' pipeline at each batch size."""
    tokenizer, trained = fast_tokenizer(classifier), classifier.trained
    probe = spread(texts, FEW)
    ids = tokenizer(probe, truncation=True, max_length=trained.max_length)["input_ids"]
    if [i for row in ids for i in row] != trained.tokenizer.encode(probe, None, trained.max_length).token_ids.tolist():
        sys.exit("transformers makes other token ids of these texts than lx: the two would not do the same work")
    pipe = hf.pipeline("text-classification", model=bert(classifier), tokenizer=tokenizer, device=classifier.device)

    def at(batch_size: int) -> Callable[[list[str]], Any]:
        options = {"batch_size": batch_size, "truncation": True, "max_length": trained.max_length}
        return lambda texts: pipe(texts, **options)

    return [Contender(f"pipeline, batch {size}", probe if size == 1 else texts, at(size)) for size in BATCH_SIZES]


def contenders(run: Path, texts: list[str]) -> tuple[list[Contender], list[Contender]]:
    """lx's, and the pipelines."""
    ours = load(run)
    dtype = ours.autocast_dtype or next(ours.net.parameters()).dtype
    every = [Contender(f"lx, {str(dtype).removeprefix('torch.')}", texts, ours.predict)]
    if dtype != torch.float32:
        every.append(Contender("lx, float32", texts, load(run, precision="32-true").predict))
    return every, pipelines(ours, texts)


def main() -> None:
    """A line for each round, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path, help='JSON Lines with a field "text"')
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # else the pipeline would switch it off, for lx too
    hf.logging.set_verbosity_error()
    with args.file.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    ours, theirs = contenders(args.run, texts)
    for contender in [*ours, *theirs]:
        contender.label(spread(texts, WARMUP))
    print(f"{len(texts):,} texts, {torch.get_num_threads()} threads, {ours[0].name} as configured; texts a second:")
    rates: dict[str, list[float]] = {contender.name: [] for contender in [*ours, *theirs]}
    for number in range(1, args.rounds + 1):
        for contender in [*ours, *theirs]:
            rates[contender.name].append(contender.rate())
        print(f"round {number}: " + "  ".join(f"{name} {found[-1]:,.1f}" for name, found in rates.items()), flush=True)
    for name, found in rates.items():
        print(f"median: {name:20s} {statistics.median(found):10,.1f}")
    fastest = [max(found) for found in zip(*(rates[contender.name] for contender in theirs), strict=True)]
    for contender in ours:
        ratios = [our / their for our, their in zip(rates[contender.name], fastest, strict=True)]
        print(
            f"{contender.name} over the fastest pipeline: median {statistics.median(ratios):.2f}, "
            f"{min(ratios):.2f} to {max(ratios):.2f}"
        )


if __name__ == "__main__":
    main()
