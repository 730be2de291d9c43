"""Two plots for a terminal, made of blocks, from zero up."""

from collections.abc import Sequence
from datetime import date
from math import ceil, log10

from rich.text import Text

_UP = " ▁▂▃▄▅▆▇█"
_RIGHT = " ▏▎▍▌▋▊▉█"
_SATURDAY = 5


def columns(rows: Sequence[tuple[date, float]]) -> Text:
    """A column a day, two lines of text for each round number of the axis. Rows: day, value."""
    top = max(1.0, *(value for _, value in rows))
    step = _step(top)
    height = 2 * ceil(top / step)
    text = Text()
    for level in reversed(range(height)):
        text.append(f"{step * (level + 1) / 2:9,.0f} ▔" if level % 2 else " " * 11, "dim")
        for day, value in rows:
            eighths = round(8 * (2 * value / step - level))
            style = "dim green" if day.weekday() >= _SATURDAY else "green"
            text.append(_UP[max(0, min(8, eighths))], style)
        text.append("\n")
    text.append(" " * 11 + _dates([day for day, _ in rows]), "dim")
    return text


def _step(top: float) -> float:
    """The round number of which five at most reach the top."""
    unit: float = 10.0 ** (ceil(log10(top)) - 1)
    return next(s * unit for s in (0.1, 0.2, 0.5, 1, 2) if top <= 5 * s * unit)


def _dates(days: Sequence[date]) -> str:
    """Each Monday that there is room for, by its date."""
    line = ""
    for place, day in enumerate(days):
        if day.weekday() == 0 and len(line) <= place:
            line = line.ljust(place) + f"{day:%-d %b} "
    return line.rstrip()


def bars(rows: Sequence[tuple[str, float, float, float]], width: int = 40) -> Text:
    """A bar a row: full up to the lower bound, shaded up to the upper one. Rows: name, value, both bounds."""
    top = max(1.0, *(upper for *_, upper in rows))
    longest = max(len(name) for name, *_ in rows)
    text = Text()
    for name, value, lower, upper in rows:
        whole, part = divmod(round(8 * width * max(0.0, lower) / top), 8)
        shade = max(1, round(width * upper / top) - whole - (part > 0))
        text.append(f"  {name:>{longest}} ")
        text.append("█" * whole + (_RIGHT[part] if part else ""), "cyan")
        text.append("░" * shade, "dim cyan")
        text.append(f" {value:,.0f}")
        text.append(f" ± {upper - value:,.0f}\n", "dim")
    text.rstrip()
    return text
