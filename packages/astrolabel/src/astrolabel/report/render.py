"""Pages from the templates beside this module: no script, one look."""

from __future__ import annotations

import math
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """A page; what the values hold is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("astrolabel.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = percent
    return environment.get_template(template).render(**values)


def number(value: float, digits: int = 3) -> str:
    """A number, or a dash where it is not known."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def percent(value: float, digits: int = 1) -> str:
    """A fraction in per cent, or a dash where it is not known."""
    return f"{100 * value:.{digits}f}\u00a0%" if math.isfinite(value) else "–"
