"""lx: experiments with Transformer text classifiers.

>>> import lx
>>> result = lx.train(lx.compose(["model=tiny"]))
>>> lx.load(result.run_dir).predict(["Return a tensor filled with zeros."])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lx.config.compose import compose as compose
    from lx.errors import LxError as LxError
    from lx.inference.explain.explain import explain as explain
    from lx.launch.inline import train as train
    from lx.sweep.contenders import compare as compare
    from lx.sweep.members import load as load

__version__ = "0.1.0"

_HOMES = {
    "LxError": "lx.errors",
    "compare": "lx.sweep.contenders",
    "compose": "lx.config.compose",
    "explain": "lx.inference.explain.explain",
    "load": "lx.sweep.members",
    "train": "lx.launch.inline",
}
__all__ = ["LxError", "compare", "compose", "explain", "load", "train"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``import lx`` and ``lx --help`` stay free of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lx' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List what a notebook completes after ``lx.``."""
    return [*__all__, "__version__"]
