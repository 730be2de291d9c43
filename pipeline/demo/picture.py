"""``usage.svg``: what the demo published, in four charts with their bounds."""

import warnings
from pathlib import Path
from typing import Any

import altair as alt
import duckdb

from pipeline.warehouse.errors import WarehouseError
from pipeline.warehouse.reader import ProtectsNobody, Statistics

_WIDE, _TALL = 700, 180
_LEFT, _RIGHT = 230, 395  # they end where the wide ones end
_BLUE, _GREY = "#2f6690", "#5c6b73"
_VERSIONS = ["#d98f3d", "#2f6690", "#6a994e", "#8e5572"]

_LAST_MONTH = "period = 'month' AND start = (SELECT max(start) FROM active_users WHERE period = 'month')"


def draw_picture(directory: Path, file: Path) -> bool:
    """Writes the SVG; without the shipped statistics there is nothing to draw, and it gives ``False``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProtectsNobody)
        statistics = Statistics(directory)
    with statistics:
        try:
            chart(statistics).save(file)
        except (WarehouseError, duckdb.Error):
            return False
    return True


def chart(statistics: Statistics) -> Any:
    """All four charts as one."""
    below = alt.hconcat(_features(statistics), _intensity(statistics), spacing=40)
    return (
        alt.vconcat(_days(statistics), _versions(statistics), below, spacing=28)
        .properties(
            title=alt.TitleParams(
                "What can be learnt from an application without knowing its users",
                subtitle="Invented users. Bands and whiskers are 95 % bounds: the noise that protects each of them.",
                anchor="start",
                fontSize=18,
                subtitleColor=_GREY,
                subtitleFontSize=12,
                offset=18,
            ),
            padding=24,
            background="white",
        )
        .resolve_scale(color="independent")
        .configure_view(stroke=None)
        .configure_axis(
            grid=True,
            gridColor="#eeeeee",
            domain=False,
            tickColor="#cccccc",
            labelColor=_GREY,
            title=None,
            titleColor=_GREY,
            titleFontWeight="normal",
        )
        .configure_title(anchor="start", fontSize=13, offset=8)
    )


def _x_days(starts: Any) -> Any:
    mondays = sorted({day for day in starts if day.weekday() == 0})
    ticks = [alt.DateTime(year=d.year, month=d.month, date=d.day) for d in mondays[:: 1 + len(mondays) // 14]]
    return alt.X("start:T", axis=alt.Axis(format="%-d %b", grid=False, values=ticks))


def _days(statistics: Statistics) -> Any:
    frame = statistics.frame("active_users")
    base = alt.Chart(frame).encode(x=_x_days(frame["start"]))
    band = base.mark_area(color=_BLUE, opacity=0.25).encode(y="users_lower:Q", y2="users_upper:Q")
    line = base.mark_line(color=_BLUE, strokeWidth=1.5).encode(y="users:Q")
    return (band + line).properties(width=_WIDE, height=_TALL, title="Users on a day")


def _versions(statistics: Statistics) -> Any:
    frame = statistics.frame("active_users_by_app_version")
    legend = alt.Legend(title="version", orient="bottom-right", direction="horizontal", offset=12)
    base = alt.Chart(frame).encode(
        x=_x_days(frame["start"]),
        color=alt.Color("app_version:N", scale=alt.Scale(range=_VERSIONS), legend=legend),
    )
    band = base.mark_area(opacity=0.25).encode(y="users_lower:Q", y2="users_upper:Q")
    line = base.mark_line(strokeWidth=1.5).encode(y="users:Q")
    title = alt.TitleParams(
        "Users on a day, by version of the application",
        subtitle="A line ends where too few share the version: what only few have is held back.",
        subtitleColor=_GREY,
    )
    return (band + line).properties(width=_WIDE, height=_TALL, title=title)


def _features(statistics: Statistics) -> Any:
    frame = statistics.sql(
        "SELECT feature || ' on ' || platform AS cell, users, users_lower, users_upper "
        f"FROM feature_use WHERE {_LAST_MONTH} ORDER BY users DESC LIMIT 10"
    )
    base = alt.Chart(frame).encode(y=alt.Y("cell:N", sort="-x", axis=alt.Axis(grid=False, labelLimit=220)))
    bars = base.mark_bar(color=_BLUE, opacity=0.8).encode(x="users:Q")
    whiskers = base.mark_rule(color="black").encode(x="users_lower:Q", x2="users_upper:Q")
    return (bars + whiskers).properties(width=_LEFT, height=_TALL + 40, title="Features by users, last month")


def _intensity(statistics: Statistics) -> Any:
    frame = statistics.sql(f"SELECT * FROM intensity WHERE {_LAST_MONTH} ORDER BY events_per_user")
    x = alt.X("events_per_user:N", sort=None, axis=alt.Axis(grid=False, labelAngle=0, title="events of one user"))
    base = alt.Chart(frame).encode(x=x)
    bars = base.mark_bar(color=_BLUE, opacity=0.8).encode(y="users:Q")
    whiskers = base.mark_rule(color="black").encode(y="users_lower:Q", y2="users_upper:Q")
    return (bars + whiskers).properties(width=_RIGHT, height=_TALL + 40, title="Users by how much they did, last month")
