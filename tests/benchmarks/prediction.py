"""Texts a second: lx's prediction against transformers' pipeline with a BERT of the same size.

    python tests/benchmarks/prediction.py runs/NAME test.jsonl --rounds 5

Each program is a process of its own that waits while another works, and loads its model once; what is timed goes from a
list of texts to their labels, tokenization included. lx computes in the precision of the run, and in float32 too; the
pipeline in float32, its default, at batch sizes 1 (on a part of the texts), 8 and 64, and in bf16, for which a user can
ask, at 8 and 64. Its BERT has random weights and is given the token ids that lx's network is given. Ratios are those to
the fastest pipeline of the same precision and round. Needs lx[pretrained].
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from baselines import SubprocessBaseline, serve

from lx.bench.benchmark import Speed
from lx.inference.classifier import Classifier, load

FEW = 1000  # texts for batch size 1
WARMUP = 64  # texts labelled before anything is timed
PIPELINES = {
    "float32": {"pipeline, batch 1": 1, "pipeline, batch 8": 8, "pipeline, batch 64": 64},
    "bf16": {"pipeline, bf16, batch 8": 8, "pipeline, bf16, batch 64": 64},
}
PRECISIONS = {"lx": None, "lx, float32": "32-true"}


def spread(texts: list[str], count: int) -> list[str]:
    """So many of the texts, from all parts of the file."""
    return [texts[i * len(texts) // count] for i in range(count)] if len(texts) > count else texts


def fast_tokenizer(classifier: Classifier) -> Any:
    """transformers' tokenizer of the run's ``tokenizer.json``."""
    from transformers import PreTrainedTokenizerFast

    loaded = classifier.loaded
    return PreTrainedTokenizerFast(
        tokenizer_file=str(loaded.directory.tokenizer),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=loaded.max_length,
    )


def bert(classifier: Classifier) -> Any:
    """transformers' BERT for classification, as large as the run's network, with random weights."""
    from transformers import BertConfig, BertForSequenceClassification

    loaded = classifier.loaded
    size = loaded.config["model"]
    if "dim" not in size:
        sys.exit(f"{loaded.directory.path} is not a run of one of lx's own Transformers: there is no BERT of its size")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=loaded.tokenizer.vocab_size,
        hidden_size=size["dim"],
        num_hidden_layers=size["num_layers"],
        num_attention_heads=size["num_heads"],
        intermediate_size=4 * size["dim"],
        max_position_embeddings=loaded.max_length,
        pad_token_id=loaded.tokenizer.pad_id,
        num_labels=classifier.task.num_outputs,
    )
    return BertForSequenceClassification(config).float().eval()


def pipeline(classifier: Classifier, texts: list[str], precision: str, batch_size: int) -> Callable[[list[str]], Any]:
    """transformers' pipeline."""
    from transformers import logging
    from transformers import pipeline as build

    logging.set_verbosity_error()
    tokenizer, loaded = fast_tokenizer(classifier), classifier.loaded
    probe = spread(texts, FEW)
    ids = tokenizer(probe, truncation=True, max_length=loaded.max_length)["input_ids"]
    if [i for row in ids for i in row] != loaded.tokenizer.encode(probe, None, loaded.max_length).token_ids.tolist():
        sys.exit("transformers makes other token ids of these texts than lx: the two would not do the same work")
    model = bert(classifier).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    pipe = build("text-classification", model=model, tokenizer=tokenizer, device=classifier.hardware.device)
    return lambda texts: pipe(texts, batch_size=batch_size, truncation=True, max_length=loaded.max_length)


def prepare(name: str, settings: list[str]) -> Callable[[int, int], Speed]:
    """Load a program; returns the function that labels texts for a round."""
    run, file = settings
    texts = [json.loads(line)["text"] for line in Path(file).read_text(encoding="utf-8").splitlines()]
    classifier = load(run, precision=PRECISIONS.get(name))
    label: Callable[[list[str]], Any] = classifier.predict
    for precision, pipelines in PIPELINES.items():
        if name in pipelines:
            label = pipeline(classifier, texts, precision, pipelines[name])

    def work(warmup: int, count: int) -> Speed:
        label(spread(texts, warmup))
        some = spread(texts, count)
        begun = time.perf_counter()
        predictions = label(some)
        seconds = time.perf_counter() - begun
        assert len(predictions) == len(some)
        tokens = int(classifier.loaded.tokenizer.encode(some, None, classifier.loaded.max_length).lengths.sum())
        return Speed(seconds, tokens, len(some))

    return work


def main() -> None:
    """A line for each round, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path, help='JSON Lines with a field "text"')
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # else the pipeline would switch it off
    count = len(args.file.read_text(encoding="utf-8").splitlines())
    names = [*PRECISIONS, *chain.from_iterable(PIPELINES.values())]
    rates: dict[str, list[float]] = {name: [] for name in names}
    print(f"{count:,} texts, {torch.get_num_threads()} threads; texts a second:")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        baselines = []
        for name in names:
            command, log = [sys.executable, __file__, "--work", name], Path(scratch) / f"{name}.txt"
            baseline = SubprocessBaseline(name, command, [str(args.run), str(args.file)], log)
            baselines.append(stack.enter_context(closing(baseline)))
        for number in range(1, args.rounds + 1):
            for baseline in baselines:
                speed = baseline.run(WARMUP, FEW if baseline.name == "pipeline, batch 1" else count)
                rates[baseline.name].append(speed.examples / speed.seconds)
            line = "  ".join(f"{name} {rate[-1]:,.1f}" for name, rate in rates.items())
            print(f"round {number}: {line}", flush=True)
    for name, of_program in rates.items():
        print(f"median: {name:24s} {statistics.median(of_program):10,.1f}")
    for precision, pipelines in PIPELINES.items():
        fastest = [max(of_round) for of_round in zip(*(rates[name] for name in pipelines), strict=True)]
        for name in PRECISIONS:
            ratios = [rate / best for rate, best in zip(rates[name], fastest, strict=True)]
            print(
                f"{name} over the fastest pipeline in {precision}: median {statistics.median(ratios):.2f}, "
                f"{min(ratios):.2f} to {max(ratios):.2f}"
            )


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        serve(partial(prepare, sys.argv[2]))
    else:
        main()
