"""The colours of figures and pages, on light and on dark paper."""

from __future__ import annotations

INK, MUTED, GRID, PAPER = "#1c2127", "#5b6570", "#d8dde3", "#fdfdfe"
SERIES = ("#0072b2", "#d55e00", "#009e74", "#b8568f", "#a87900", "#3b8fc4")
"""Distinct for the colour-blind (after Okabe and Ito 2008), each with a contrast of 3:1 on white."""
_DARK_SERIES = ("#58b0ea", "#ff8f4a", "#35c99c", "#e79ac6", "#dbb04a", "#9cd3f5")
LIGHT = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER, "raised": "#f1f4f7"}
DARK = {"ink": "#e8ebef", "muted": "#9aa5b1", "grid": "#333b45", "paper": "#14181d", "raised": "#1f252c"}
LIGHT |= {f"s{index}": colour for index, colour in enumerate(SERIES)}
DARK |= {f"s{index}": colour for index, colour in enumerate(_DARK_SERIES)}
"""By CSS variable."""
