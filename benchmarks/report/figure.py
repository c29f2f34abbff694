"""A chart with its title, as the page and the PNG files need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

AnyChart = alt.Chart | alt.LayerChart | alt.FacetChart
WIDTH = 500  # of the plotting area, in pixels


@dataclass(frozen=True)
class Figure:
    """A chart without its title, which the page sets as a caption and a PNG file shows above the chart."""

    name: str  # of its file, without an ending
    title: str
    about: str
    chart: AnyChart

    def spec(self, *, titled: bool = False) -> dict[str, Any]:
        """The Vega-Lite specification; `titled` puts title and description into the picture."""
        description = f"{self.title}. {self.about}"
        chart = self.chart.properties(description=description)
        if titled:
            chart = chart.properties(title=alt.TitleParams(self.title, subtitle=self.about))
        found: dict[str, Any] = chart.to_dict(validate=True)
        for name in (
            "config",
            "$schema",
        ):  # the page chooses the palette and fetches nothing
            found.pop(name, None)
        return found


def over(values: Sequence[Mapping[str, object]]) -> alt.Chart:
    """A chart of these records, which its specification holds."""
    return alt.Chart(alt.InlineData(values=list(values)))


def slug(text: str) -> str:
    """A text as part of a file's name."""
    return "-".join("".join(c if c.isalnum() or c in ".-" else " " for c in text.lower()).split())
