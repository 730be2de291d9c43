"""The forecast as a chart: users of the cells by rank, the threshold, and which of them will be shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.plan.forecast import Forecast

_BLUE, _GREY = "#2f6690", "#5c6b73"
_BLOCKS = " ▁▂▃▄▅▆▇█"


def sparkline(found: Forecast, width: int = 40) -> str:
    """The chance of being shown, over the ranks of the cells on a logarithmic axis."""
    if found.cells < 2:
        return _BLOCKS[round(8 * float(found.chance[0]))] * width
    ranks = np.geomspace(1, found.cells, width).round()
    groups = np.searchsorted(np.cumsum(found.size), ranks)
    return "".join(_BLOCKS[round(8 * float(found.chance[min(g, len(found.chance) - 1)]))] for g in groups)


def draw_forecasts(forecasts: Sequence[Forecast], file: Path) -> None:
    """Writes an SVG or a PNG, by the file's ending; no browser and no network is used."""
    import altair as alt

    panels = [_panel(alt, each) for each in forecasts]
    alt.vconcat(*panels, spacing=28).properties(
        title=alt.TitleParams(
            f"What {forecasts[0].statistic} will show",
            subtitle="Users of each cell, by rank. Bands are 95 % bounds; the dashed line is the threshold.",
            anchor="start",
            fontSize=18,
            subtitleColor=_GREY,
            offset=18,
        ),
        padding=24,
        background="white",
    ).configure_view(stroke=None).configure_axis(
        gridColor="#eeeeee", domain=False, labelColor=_GREY, titleColor=_GREY, titleFontWeight="normal"
    ).configure_title(anchor="start", fontSize=13).save(file)


def _panel(alt: Any, found: Forecast) -> Any:
    rank = np.cumsum(found.size) - found.size + 1
    frame = pd.DataFrame(
        {
            "rank": rank,
            "true": np.maximum(found.true, 1.0),
            "counted": np.maximum(found.counted, 1.0),
            "lower": np.maximum(found.counted - found.bar95, 1.0),
            "upper": np.maximum(found.counted + found.bar95, 1.0),
            "chance": found.chance,
        }
    )
    # Where hardly a cell is shown there is no use in more of them.
    frame = frame[rank <= max(10.0, 4 * found.shown)]
    base = alt.Chart(frame).encode(x=alt.X("rank:Q", scale=alt.Scale(type="log"), title="rank"))
    y = alt.Y("counted:Q", scale=alt.Scale(type="log"), title="users")
    band = base.mark_area(color=_BLUE, opacity=0.15).encode(y=alt.Y("lower:Q", title="users"), y2="upper:Q")
    truth = base.mark_line(color=_GREY, strokeWidth=1).encode(y="true:Q")
    shade = alt.Color("chance:Q", scale=alt.Scale(range=["#dddddd", _BLUE], domain=[0, 1]), title="chance to be shown")
    layers = [band, truth, base.mark_point(filled=True, size=30, opacity=1).encode(y=y, color=shade)]
    if found.threshold is not None:
        rule = alt.Chart(pd.DataFrame({"threshold": [found.threshold]}))
        layers.append(rule.mark_rule(strokeDash=[4, 4], color="black").encode(y="threshold:Q"))
    title = f"a {found.kind}: {found.shown:,.0f} of {found.cells:,} cells; grey line: users before max_cells"
    return alt.layer(*layers).properties(width=700, height=180, title=title)
