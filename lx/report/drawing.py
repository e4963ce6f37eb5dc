"""How figures are drawn: once, in the colours of a light page; in a report CSS exchanges them, so it can be dark.

Text stays text in SVG: the browser picks a font that has its letters.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Drawing
from numpy.typing import NDArray

from lx.report.colours import GRID, INK, LIGHT, MUTED, PAPER, SERIES
from lx.system.output import escape

DASHES = ("-", "--", ":", "-.")
_VARIABLES = {colour: variable for variable, colour in LIGHT.items() if variable != "raised"}
WIDTH, HEIGHT = 4.1, 2.8  # inches: a telephone shows one at full size, a desktop three side by side
_POINTS = 72.0
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei")
_MORE_FONTS = ("Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "SimHei", "Arial Unicode MS", "Noto Sans")


@dataclass(frozen=True)
class Figure:
    """A figure of a report.

    Attributes:
        name: of its file, without suffix; unique in a report.
        title: what it shows.
        description: what is seen, in words, for those who cannot see it.
        drawing: by matplotlib.
    """

    name: str
    title: str
    description: str
    drawing: Drawing

    def image(self, kind: str, background: str = PAPER) -> bytes:
        """Return the content of a file of a kind that matplotlib writes: ``svg`` or ``png``."""
        with mpl.rc_context(_style(self.name)), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the browser has others
            file = io.BytesIO()
            metadata = {"Date": None, "Creator": None, "Type": None, "Format": None} if kind == "svg" else None
            self.drawing.savefig(file, format=kind, dpi=160, metadata=metadata, facecolor=background)
        return file.getvalue()

    def inline(self) -> str:
        """Return the ``<svg>`` element for a page, with CSS variables as colours."""
        svg = self.image("svg", background="none").decode("utf-8")
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
        svg = re.sub(r' id="(?:figure|axes|patch|text|matplotlib|xtick|ytick|line2d)[\w.]*"', "", svg)
        svg = re.sub(r'font: ([\d.]+px) [^;"]*', r"font: \1 var(--font)", svg)
        svg = re.sub("|".join(_VARIABLES), lambda match: f"var(--{_VARIABLES[match[0]]})", svg)
        width = self.drawing.get_figwidth() * 96  # CSS pixels an inch
        return re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 style="width:{width:.0f}px"', svg, count=1).replace(
            "<svg", '<svg aria-hidden="true"', 1
        )

    def missing_glyphs(self) -> bool:
        """Return whether a PNG lacks letters that no installed font has."""
        with mpl.rc_context(_style(self.name)), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.drawing.savefig(io.BytesIO(), format="png", dpi=20)
        return any("missing from font" in str(warning.message) for warning in caught)


def _style(salt: str = "lx") -> Any:  # a TypedDict of matplotlib's
    installed = set(font_manager.get_font_names())
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": [name for name in (*_FONTS, *_MORE_FONTS) if name in installed],
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=SERIES),
        "axes.formatter.useoffset": False,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.6,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "path.simplify_threshold": 0.5,
    }


@contextmanager
def canvas(width: float = WIDTH, height: float = HEIGHT) -> Iterator[tuple[Drawing, Axes]]:
    """Give a drawing of so many inches and its axes, in the style of reports while the block runs."""
    with mpl.rc_context(_style()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawing = Drawing(figsize=(width, height), layout="constrained")
        yield drawing, drawing.add_subplot()


def legend(drawing: Drawing, axes: Axes, columns: int = 2) -> None:
    """Put a legend below the axes, if there is more than one thing to tell apart."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        drawing.legend(handles, labels, loc="outside lower left", ncols=columns)


def line_style(index: int) -> dict[str, Any]:
    """Return colour and dashes of one of several lines: the dashes change when the colours begin again."""
    return {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index // len(SERIES) % len(DASHES)]}


def shaded(opacity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an image [H, W, 4] in the first colour of lines, with an opacity [H, W] from 0 to 1."""
    return np.dstack([np.broadcast_to(to_rgb(SERIES[0]), (*opacity.shape, 3)), opacity])


def label(text: object, most: int = 28) -> str:
    """Return a text for a figure: on one line, without control characters, cut to a number of columns."""
    shown = escape(" ".join(str(text).split()))
    if columns(shown) <= most:
        return shown
    while columns(shown) > most - 1:
        shown = shown[:-1]
    return f"{shown}…"


def columns(text: str) -> int:
    """Return how wide a text is, in letters: a Chinese character is two wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def text_inches(texts: Sequence[str], size: float) -> float:
    """Return an upper estimate of the width of the widest text in inches, in whatever font it is shown."""
    return max(map(columns, texts), default=0) * 0.62 * size / _POINTS
