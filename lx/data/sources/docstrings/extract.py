"""Documentation strings of many source files, in worker processes of our own.

The workers are plain interpreters that read paths on standard input and answer in JSON Lines. Unlike a
process pool they neither fork a parent that may hold torch's threads nor import its main module again,
so they are safe from a notebook, from an unguarded script and from inside a training process.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile

from lx.data.sources.docstrings.masking import mask_names, name_mask
from lx.data.sources.docstrings.prose import prose

_BLOCKS = ("cases", "finalbody", "orelse", "handlers", "body")  # last first: the stack turns them round
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(source: bytes) -> Iterator[str]:
    """The documentation strings of a module, its classes and functions, in order.

    Only statements are walked, never expressions: about twice as fast as :func:`ast.walk`.
    A file that does not parse has none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree: ast.AST = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, _DOCUMENTED) and node.body:
            match node.body[0]:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield text
        for block in _BLOCKS:
            pending.extend(reversed(getattr(node, block, ())))


def extract(
    files: Sequence[Path], libraries: Sequence[str], *, workers: int, done: Callable[[int], None]
) -> list[list[str]]:
    """The prose of every documentation string of each file, with the names of the libraries masked.

    Args:
        files: Python source files.
        libraries: The libraries whose names are masked.
        workers: Number of processes; the result does not depend on it.
        done: Called with the number of files just read, from several threads.
    """
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [0] * workers
    sizes = [file.stat().st_size for file in files]
    for index in sorted(range(len(files)), key=lambda i: -sizes[i]):
        lightest = loads.index(min(loads))
        shares[lightest].append(index)
        loads[lightest] += sizes[index]
    texts_of_files: list[list[str]] = [[] for _ in files]

    def run(share: list[int]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4]), "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-c", "from lx.data.sources.docstrings.extract import serve; serve()"]
        with TemporaryFile("w+", encoding="utf-8") as request:
            request.writelines(json.dumps(line) + "\n" for line in [list(libraries), *(str(files[i]) for i in share)])
            request.seek(0)
            with subprocess.Popen(
                command, stdin=request, stdout=subprocess.PIPE, env=environment, encoding="utf-8"
            ) as worker:
                assert worker.stdout is not None
                for index, line in zip(share, worker.stdout, strict=False):
                    texts_of_files[index] = json.loads(line)
                    done(1)
        if worker.returncode:
            raise RuntimeError(f"reading documentation strings failed: a worker ended with {worker.returncode}")

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, shares))
    return texts_of_files


def serve() -> None:
    """The worker: library names on the first line, then a path a line; a JSON list a line in answer."""
    requests = (json.loads(line) for line in sys.stdin)
    pattern = name_mask(next(requests))
    gc.disable()  # syntax trees hold no cycles; looking for some costs a fifth of the time
    for path in requests:
        try:
            source = Path(path).read_bytes()
        except OSError:
            source = b""  # gone, or not ours to read: as good as undocumented
        masked = (mask_names(prose(text), pattern) for text in docstrings(source))
        # Half a surrogate pair is no character that could be written to a file.
        texts = [text.encode(errors="ignore").decode() for text in masked if text]
        print(json.dumps(texts), flush=True)
