"""Remove the names of libraries from texts, so that a model has to tell them apart by their prose."""

from __future__ import annotations

import re
from collections.abc import Iterable

PLACEHOLDER = "LIB"

# Stems are masked wherever they stand inside an identifier (`is_torch_tensor`); words only on their own,
# since "datasets" or "np" inside another word means nothing.
_STEMS = {"huggingface_hub": ("huggingface", "hugging_face"), "torchmetrics": ("torchmetrics",)}
_WORDS = {
    "python": ("stdlib",),
    "torch": ("aten", "c10"),
    "numpy": ("np",),
    "pandas": ("pd",),
    "networkx": ("nx",),
    "lightning": ("pl",),
    "torchmetrics": ("tm",),
    "huggingface_hub": ("hugging face", "hf", r"hf_\w+"),
    "wandb": (r"weights\s*(?:&|and)\s*biases", "w&b"),
    "datasets": ("datasets",),
}
_COMMON_WORDS = {"datasets"}  # as a stem it would eat ordinary identifiers


def name_mask(libraries: Iterable[str]) -> re.Pattern[str]:
    """The pattern of every name by which the libraries are known.

    It takes whole identifiers, whatever their case, with the dotted module path that follows
    (``torch.nn.functional.relu`` leaves ``relu``), so that neither the name nor its inner modules tell.
    """
    stems: set[str] = set()
    words: set[str] = set()
    for library in libraries:
        if library not in _COMMON_WORDS:
            stems.update(_STEMS.get(library, (library,)))
        words.update(_WORDS.get(library, ()))
    name = "|".join([*sorted(words), rf"\w*(?:{'|'.join(sorted(stems))})\w*"])
    return re.compile(rf"(?<![\w])(?:{name})(?!\w)(?:\.\w+(?=\.\w))*\.?(?=\w)|(?<!\w)(?:{name})(?!\w)", re.IGNORECASE)


def mask_names(text: str, pattern: re.Pattern[str]) -> str:
    """``text`` with each name replaced by a placeholder."""
    return pattern.sub(lambda match: PLACEHOLDER + (" " if match.group().endswith(".") else ""), text)
