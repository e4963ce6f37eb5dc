"""``lx predict``: label texts."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lx.cli.arguments import Parser, check_ending, check_out, runs_of
from lx.errors import LxError
from lx.system.gc import freeze_after_imports
from lx.system.output import DataStream, say

if TYPE_CHECKING:
    from lx.inference.load import LoadedRun
    from lx.inference.stream import Predictor
    from lx.inference.texts import NumberedTexts


def run(arguments: list[str]) -> int:
    """Label texts with a run's best weights and return the exit code."""
    args = parser().parse_args(arguments)
    if args.text and args.file:
        raise LxError("give texts with --text or a file, not both")
    file = None if args.file in (None, "-") else Path(args.file)
    if file is None and not args.text and sys.stdin is None:
        raise LxError("standard input is closed: give a file, --text TEXT, or a pipe")
    from lx.inference.texts import require_known_file
    from lx.launch.local import run_on_ranks

    devices = [f"hardware.accelerator={args.accelerator}", f"hardware.devices={args.devices}"]
    if (code := run_on_ranks(args.run, devices if args.devices != "1" else [], ["predict", *arguments])) is not None:
        return code
    if args.pair and not args.text:
        raise LxError("--pair gives the second text of each --text, and there is no --text")
    args.format = args.format or _kind_by_name(args.out)
    check_out(args.out, args.run, inputs=[] if file is None else [args.file])
    if file is not None:
        require_known_file(file)
    runs = runs_of(args)
    with freeze_after_imports():
        from lx.distributed.process_group import process_group
        from lx.distributed.rank_info import RankInfo
        from lx.inference.average import build_predictor
        from lx.inference.load import load_run
        from lx.system.hardware import resolve
    rank_info = RankInfo.from_environment()
    members = [load_run(run, args.trust) for run in runs]
    precision = args.precision or str(members[0].config["hardware"]["precision"])
    hardware = resolve(
        args.accelerator, precision, local_rank=rank_info.local_rank, local_world_size=rank_info.local_world_size
    )
    with process_group(rank_info, hardware.device, Path(args.run)):
        predictor = build_predictor(members, hardware, rank_info)
        if rank_info.is_first:
            _predict(predictor, _texts(members[0], file, args), members[0].has_pairs, args)
        else:
            list(predictor.stream([]))
    return 0


def _predict(predictor: Predictor, texts: NumberedTexts, has_pairs: bool, args: Namespace) -> None:
    """Write the predictions of texts where the arguments say."""
    from lx.inference.texts import write_predictions
    from lx.system.files import output_file

    predictions = predictor.stream(texts.rows())
    columns = predictor.task.prediction_columns(args.probabilities)

    def write(out: DataStream | IO[str]) -> int:
        return write_predictions(predictions, out, args.format, args.probabilities, columns, texts.ids(), has_pairs)

    if args.out is None:
        stdout = DataStream()
        write(stdout)
        stdout.flush()
        return
    with output_file(args.out) as path, path.open("w", encoding="utf-8", newline="") as out:
        count = write(out)
    say(f"{count:,} predictions in {args.out}", sys.stderr)


def _kind_by_name(out: Path | None) -> str:
    suffix = "" if out is None else out.suffix.lower()
    check_ending(out, ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
    return suffix[1:] if suffix in (".csv", ".tsv") else "jsonl"


def _texts(loaded: LoadedRun, file: Path | None, args: Namespace) -> NumberedTexts:
    """Read the texts that the arguments name."""
    from lx.inference.texts import texts_of_arguments, texts_of_file, texts_of_input

    if args.text:
        return texts_of_arguments(args.text, args.pair)
    if file is None:
        return texts_of_input(sys.stdin)
    columns = loaded.config["data"]
    pair = args.pair_column or (columns.get("text_pair") if loaded.has_pairs else None)
    return texts_of_file(file, args.column or columns.get("text") or "text", pair)


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser("predict", "Label texts, in the order of the input.")
    parser.add_run()
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="CSV, TSV, JSON Lines, Parquet or .txt; - (default): lines of stdin"
    )
    parser.add_argument("--text", nargs="+", action="extend", metavar="TEXT", help="texts to label, instead of a file")
    parser.add_argument("--pair", nargs="+", action="extend", metavar="TEXT", help="the second text of each --text")
    parser.add_argument("--column", metavar="NAME", help="the column of texts (default: as in training, else text)")
    parser.add_argument("--pair-column", metavar="NAME", help="the column of second texts (default: as in training)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write here (.jsonl, .csv, .tsv), not to stdout")
    parser.add_argument("--format", choices=("jsonl", "csv", "tsv"), help="default: by the name of --out, else jsonl")
    parser.add_argument("--probabilities", action="store_true", help="also write the probability of every class")
    parser.add_argument("--accelerator", default="auto", metavar="NAME", help="auto (default), cpu, gpu or mps")
    parser.add_argument("--devices", default="1", metavar="N", help="how many devices share the texts; auto: all")
    parser.add_argument("--precision", metavar="NAME", help="auto, 32-true, bf16-mixed, ... (default: as in training)")
    parser.add_trust()
    return parser
