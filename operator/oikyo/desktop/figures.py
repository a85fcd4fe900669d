"""Values as people read them."""

from __future__ import annotations

from collections.abc import Iterable

from oikyo.api.meta import Metric
from oikyo.api.tasks import LOWER_IS_BETTER


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def number(text: str) -> float | None:
    """A metric's text as a number, if it is one."""
    try:
        return float(text)
    except ValueError:
        return None


def short(text: str) -> str:
    """A metric's value with four significant digits."""
    value = number(text)
    return text if value is None else f"{value:.4g}"


def value_of(metrics: Iterable[Metric], name: str) -> str:
    return next((metric.value for metric in metrics if metric.name == name), "")


def change(name: str, tuned: str, base: str) -> tuple[str, bool | None]:
    """The step from base to tuned, signed, and whether it is for the better."""
    now, before = number(tuned), number(base)
    if now is None or before is None:
        return "", None
    step = now - before
    better = None if step == 0 else (step < 0) == (name in LOWER_IS_BETTER)
    return f"{step:+.4g}", better
