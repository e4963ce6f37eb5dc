"""``lx predict RUN``: labels for texts, in the order of the input, in constant memory."""

from __future__ import annotations

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lx.data.batches import EVAL_TOKENS, eval_plan, mask_and_types
from lx.data.sources.readers import Columns, known_extensions, reader_of
from lx.data.tokens.tokenizer import Encoded
from lx.distributed.process_group import all_gather, process_group, scatter
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError
from lx.inference.load import Trained, load_trained
from lx.kernels.swap import swap_in_kernels, uses_kernels
from lx.system import hardware
from lx.system.files import atomic_write
from lx.system.hardware import Hardware

_CHUNK = 4096  # texts tokenized, sorted by length and labelled at a time, on each rank
_CORE_TOKENS = 4096  # of a batch that one core labels: what it passes from layer to layer stays near it
Chunk = list[tuple[str, str | None]]


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of a text.

    Attributes:
        text: the text; of a pair, the first.
        label: the most probable class.
        probability: of that class.
        probabilities: of every class, by name.
    """

    text: str
    label: str
    probability: float
    probabilities: dict[str, float]


class Classifier:
    """A trained classifier, ready to label texts.

    Args:
        trained: from a run directory.
        here: where to compute.
        rank_info: of this process among those that share the texts.
    """

    def __init__(self, trained: Trained, here: Hardware, rank_info: RankInfo | None = None) -> None:
        self.trained = trained
        self.rank_info = rank_info or RankInfo()
        self.here = here
        dtype = torch.float32 if here.autocast_dtype else here.product_dtype
        self.net = trained.net.to(here.device, dtype)
        swap_in_kernels(self.net, here.device, here.product_dtype)
        if here.autocast_dtype and not uses_kernels(self.net):
            for module in self.net.modules():  # once, where autocast would do it for every batch
                if isinstance(module, nn.Linear):
                    module.to(here.autocast_dtype)

    @property
    def class_names(self) -> list[str]:
        """In label-id order."""
        return self.trained.class_names

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Prediction]:
        """Label texts.

        Args:
            texts: what to label.
            pairs: the second text of each, for a classifier of pairs.

        Raises:
            LxError: pairs are missing, or given to a classifier of single texts.
        """
        return list(self.stream(zip(texts, pairs, strict=True) if pairs is not None else ((t, None) for t in texts)))

    def stream(self, rows: Iterable[tuple[str, str | None]]) -> Iterator[Prediction]:
        """Label texts as they come, in their order; only a few thousand are held at a time.

        Args:
            rows: each text and the text paired with it, or None. Where there are several ranks, those of the first
                are shared out, and it alone yields.
        """
        iterator, world_size = iter(rows), self.rank_info.world_size
        while True:
            chunk = list(islice(iterator, _CHUNK * world_size)) if self.rank_info.is_first else []
            mine = scatter(_parts(chunk, world_size) if self.rank_info.is_first else [])
            if mine is None:
                return
            probabilities = self.probabilities([text for text, _ in mine], [pair for _, pair in mine])
            found = chain.from_iterable(all_gather(probabilities.tolist()))
            for (text, _), row in zip(chunk, found, strict=self.rank_info.is_first):
                best = max(range(len(row)), key=row.__getitem__)
                yield Prediction(text, self.class_names[best], row[best], dict(zip(self.class_names, row, strict=True)))

    def probabilities(self, texts: Sequence[str], pairs: Sequence[str | None]) -> Tensor:
        """Probabilities [texts, classes] in float32, on the CPU."""
        for pair in pairs:
            self.trained.require_pairs(pair is not None)
        seconds = [pair or "" for pair in pairs] if self.trained.has_pairs else None
        encoded = self.trained.tokenizer.encode(texts, seconds, self.trained.max_length)
        on_cpu = self.here.device.type == "cpu"
        batches = eval_plan(encoded.lengths, max_tokens=_CORE_TOKENS if on_cpu else EVAL_TOKENS)
        out = torch.empty(len(texts), len(self.class_names))
        with _side_by_side(self.here.threads if on_cpu and len(batches) >= self.here.threads else 1) as map_batches:
            for rows, found in zip(batches, map_batches(partial(self._label, encoded), batches), strict=True):
                out[torch.from_numpy(rows)] = found
        return out

    @torch.inference_mode()
    def _label(self, encoded: Encoded, rows: NDArray[np.int64]) -> Tensor:
        """Probabilities of a batch."""
        lengths, starts = encoded.lengths[rows], encoded.starts[rows]
        token_ids = np.full((len(rows), int(lengths.max())), self.trained.tokenizer.pad_id, np.int64)
        for target, start, length in zip(token_ids, starts.tolist(), lengths.tolist(), strict=True):
            target[:length] = encoded.token_ids[start : start + length]
        mask, types = mask_and_types(lengths, encoded.second[rows] if self.trained.has_pairs else None)
        device = self.here.device
        with self._autocast():
            logits: Tensor = self.net(
                torch.from_numpy(token_ids).to(device),
                mask.to(device),
                None if types is None else types.to(device),
            )
        return logits.float().softmax(-1).cpu()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.here.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.here.device.type, self.here.autocast_dtype)


@contextmanager
def _side_by_side(threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A ``map`` that gives each item to one of so many cores.

    Cores that share every operation wait for one another after each; with an item of its own, none waits.
    """
    if threads == 1:
        yield map
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)  # torch hands on to later threads what was set last


def _parts(chunk: Chunk, count: int) -> list[Chunk | None]:
    """Neighbours in equal parts; None for each if there is nothing left."""
    return [chunk[i * len(chunk) // count : (i + 1) * len(chunk) // count] if chunk else None for i in range(count)]


def load(
    run_dir: str | Path,
    accelerator: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    trust: Sequence[str] = (),
) -> Classifier:
    """Load a run's classifier, on whatever hardware is here.

    Args:
        run_dir: the run directory.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        precision: Lightning's name, or ``auto``; None: as the run was configured.
        threads: CPU threads; None: as torch finds best.
        trust: packages whose classes may be built from the run's configuration.

    Raises:
        LxError: not a complete run, one that was refused, or hardware that is not here.
    """
    trained = load_trained(run_dir, trust)
    chosen = precision or str(trained.config["hardware"]["precision"])
    return Classifier(trained, hardware.resolve(accelerator, chosen, threads))


def read_texts(path: Path, text: str, text_pair: str | None) -> Iterator[tuple[str, str | None]]:
    """The texts of a CSV, TSV, JSON Lines or Parquet file, or of a ``.txt`` file, one a line.

    Raises:
        LxError: missing, of an unknown kind, malformed, or without the column.
    """
    if not path.is_file():
        raise LxError(f"no file {path} to read texts from")
    if path.suffix == ".txt":
        with path.open(encoding="utf-8") as file:
            yield from read_lines(file, str(path))
        return
    reader = reader_of(path)
    if reader is None:
        raise LxError(f"{path}: unknown kind of file; lx reads .txt, {', '.join(known_extensions())}")
    for rows in reader(path, Columns(text, text_pair, label=text)):  # a label is read too, but none is needed
        pairs = rows.pairs or [None] * len(rows.texts)
        for first, second in zip(rows.texts, pairs, strict=True):
            yield first or "", (second or "") if text_pair is not None else None


def read_lines(file: IO[str], name: str) -> Iterator[tuple[str, None]]:
    """One text a line.

    Raises:
        LxError: it is not UTF-8.
    """
    try:
        for line in file:
            yield line.rstrip("\r\n"), None
    except UnicodeDecodeError as error:
        raise LxError(f"{name} is not UTF-8 ({error.reason}): convert it, for example with iconv") from error


def write_predictions(
    predictions: Iterable[Prediction],
    out: IO[str],
    kind: str,
    with_probabilities: bool,
    class_names: Sequence[str],
) -> int:
    """Write predictions as they come: ``id`` (from 0), ``text``, ``label``, ``probability``.

    Args:
        predictions: in the order of the input.
        out: an open text file.
        kind: ``jsonl`` or ``csv``.
        with_probabilities: add the probability of every class.
        class_names: the columns of those in CSV.

    Returns:
        How many were written.
    """
    write = (
        _csv_writer(out, with_probabilities, class_names) if kind == "csv" else _json_writer(out, with_probabilities)
    )
    number = -1
    for number, prediction in enumerate(predictions):
        write(number, prediction)
    return number + 1


def _json_writer(out: IO[str], with_probabilities: bool) -> Callable[[int, Prediction], None]:
    def write(number: int, prediction: Prediction) -> None:
        row: dict[str, Any] = {
            "id": number,
            "text": prediction.text,
            "label": prediction.label,
            "probability": prediction.probability,
        }
        if with_probabilities:
            row["probabilities"] = prediction.probabilities
        out.write(json.dumps(row, ensure_ascii=False) + "\n")

    return write


def _csv_writer(
    out: IO[str], with_probabilities: bool, class_names: Sequence[str]
) -> Callable[[int, Prediction], None]:
    writer = csv.writer(out)
    extra = list(class_names) if with_probabilities else []
    writer.writerow(["id", "text", "label", "probability", *(f"probability[{name}]" for name in extra)])

    def write(number: int, prediction: Prediction) -> None:
        of = prediction.probabilities
        writer.writerow(
            [number, prediction.text, prediction.label, prediction.probability, *(of[name] for name in extra)]
        )

    return write


def run_predict(args: Namespace) -> None:
    """What ``lx predict`` does with its parsed arguments."""
    if args.pair and not args.text:
        raise LxError("--pair gives the second text of each --text, and there is no --text")
    if args.file not in (None, "-") and not Path(args.file).is_file():
        raise LxError(f"no file {args.file} to read texts from")
    rank_info = RankInfo.from_environment()
    trained = load_trained(args.run, args.trust)
    precision = args.precision or str(trained.config["hardware"]["precision"])
    here = hardware.resolve(
        args.accelerator, precision, local_rank=rank_info.local_rank, local_world_size=rank_info.local_world_size
    )
    with process_group(rank_info, here.accelerator, trained.run.path):
        classifier = Classifier(trained, here, rank_info)
        if rank_info.is_first:
            _predict(classifier, args)
        else:
            list(classifier.stream([]))


def _predict(classifier: Classifier, args: Namespace) -> None:
    columns = classifier.trained.config["data"]
    text = args.column or columns.get("text") or "text"
    rows: Iterable[tuple[str, str | None]]
    if args.text:
        if args.pair and len(args.pair) != len(args.text):
            raise LxError(f"--text has {len(args.text)} texts, --pair {len(args.pair)}: each text needs its pair")
        rows = zip(args.text, args.pair or [None] * len(args.text), strict=True)
    elif args.file in (None, "-"):
        rows = read_lines(sys.stdin, "standard input")
    else:
        pair = args.pair_column or (columns.get("text_pair") if classifier.trained.has_pairs else None)
        rows = read_texts(Path(args.file), text, pair)
    kind = args.format or ("csv" if args.out is not None and args.out.suffix == ".csv" else "jsonl")
    predictions = classifier.stream(rows)
    if args.out is None:
        write_predictions(predictions, sys.stdout, kind, args.probabilities, classifier.class_names)
        return
    with atomic_write(args.out) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        count = write_predictions(predictions, out, kind, args.probabilities, classifier.class_names)
    print(f"{count:,} predictions in {args.out}", file=sys.stderr)
