"""The gravest mistakes of a run, by split: ``mistakes.json``, read from a directory that may be a stranger's."""

from __future__ import annotations

from os.path import lexists
from typing import Any

from lx.errors import LxError
from lx.run.directory import RunDirectory


def read_mistakes(run: RunDirectory) -> dict[str, list[dict[str, Any]]]:
    """Return the mistakes of each split, the gravest first; nothing of a run that has kept none.

    A mistake has ``row``, ``label``, ``prediction`` and perhaps ``probability``, ``text`` and ``text_pair``. Those of
    ``train`` are an expert's, each by a fit that has not seen the row.

    Raises:
        LxError: the file does not hold mistakes.
    """
    if not lexists(run.mistakes):
        return {}
    content = run.read_json(run.mistakes)
    if isinstance(content, dict) and "mistakes" in content:  # older runs kept those of one split
        content = {content.get("split"): content["mistakes"]}
    if not isinstance(content, dict) or not all(
        isinstance(mistakes, list) and all(isinstance(mistake, dict) for mistake in mistakes)
        for mistakes in content.values()
    ):
        raise LxError(f"{run.mistakes} does not hold the mistakes of a run")
    return content
