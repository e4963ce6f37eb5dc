"""``lx explain``: why a run says what it says of a text."""

from __future__ import annotations

import sys
from pathlib import Path

from lx.cli.arguments import Parser, check_out, require_one_run
from lx.errors import LxError
from lx.system.gc import freeze_after_imports
from lx.system.output import say


def run(arguments: list[str]) -> int:
    """Explain a prediction, in the terminal or in a file, and return the exit code."""
    args = parser().parse_args(arguments)
    if args.out is not None and args.out.suffix.lower() not in (".html", ".htm"):
        raise LxError(f"--out {args.out}: an explanation is written as .html")
    require_one_run(Path(args.run), "explain")
    check_out(args.out, args.run)
    with freeze_after_imports():
        from lx.inference.explain.explain import explain
        from lx.inference.texts import texts_of_arguments
    from lx.report.explanation_terminal import draw
    from lx.system.console import show

    text, pair = args.text, args.pair
    if text is not None:
        ((text, pair),) = texts_of_arguments([text], None if pair is None else [pair]).rows()
    explanation = explain(args.run, text, pair, row=args.row, label=args.label, trust=args.trust)
    show(*draw(explanation))
    if args.out is not None:
        from lx.report.explanation_page import explanation_page
        from lx.system.files import output_file

        with output_file(args.out) as path:
            path.write_text(explanation_page(explanation), encoding="utf-8")
        say(f"written to {args.out}", sys.stderr)
    return 0


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser("explain", "Show what each word of a text adds to its prediction, and what the attention reads.")
    parser.add_argument("run", metavar="RUN", help="the run directory")
    parser.add_argument("--text", metavar="TEXT", help="the text")
    parser.add_argument("--pair", metavar="TEXT", help="the second text, for a run on pairs")
    parser.add_argument("--row", type=int, metavar="N", help="a row of the run's test split instead, counted from 0")
    parser.add_argument("--label", metavar="NAME", help="explain this label (default: what is predicted)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write a page with all heads: explain.html")
    parser.add_trust()
    return parser
