"""Fills the HTML templates beside this file: pages that need no network, with every text from data escaped."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lx.report.colours import DARK, LIGHT
from lx.system.output import escape


def render(template: str, **values: Any) -> str:
    """Return the content of a page."""
    environment = Environment(
        loader=PackageLoader("lx.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape(value) if type(value) is str else value,
    )
    environment.filters["cell"] = _cell
    return environment.get_template(template).render(light=LIGHT, dark=DARK, **values)


def _cell(value: Any) -> str:
    """A value as a table shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"
    return "" if value is None else str(value)
