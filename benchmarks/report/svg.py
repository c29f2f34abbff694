"""A chart as SVG for the page: colours are the page's own variables, so that it follows light and dark."""

from __future__ import annotations

from html import escape

from pam_edge.benchmarks.report.shapes import Box, Chart, Dot, Path, Shape, Words


def svg(chart: Chart) -> str:
    """The element. What a shape tells when it is pointed at is its `title`."""
    body = "".join(map(_shape, chart.shapes))
    return (
        f'<svg viewBox="0 0 {chart.width:g} {chart.height:g}" role="img" '
        f'aria-label="{escape(chart.title)}: {escape(chart.about)}" '
        f'style="max-width:{chart.width:g}px">{body}</svg>'
    )


def _shape(shape: Shape) -> str:
    match shape:
        case Box(x, y, width, height, fill, radius, tip):
            return (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0, width):.1f}" height="{height:.1f}" '
                f'rx="{radius:g}" fill="var(--{fill})">{_tip(tip)}</rect>'
            )
        case Path(points, stroke, fill, width, dashed, opacity):
            places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            kind = "polygon" if fill else "polyline"
            line = f'stroke="var(--{stroke})" stroke-width="{width:g}"' if stroke else 'stroke="none"'
            dash = ' stroke-dasharray="5 4"' if dashed else ""
            inside = f"var(--{fill})" if fill else "none"
            return (
                f'<{kind} points="{places}" fill="{inside}" {line}{dash} stroke-linejoin="round" '
                f'opacity="{opacity:g}"/>'
            )
        case Dot(x, y, fill, radius, hollow, tip):
            inside = "var(--card)" if hollow else f"var(--{fill})"
            edge = fill if hollow else "card"
            return (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{inside}" '
                f'stroke="var(--{edge})" stroke-width="2">{_tip(tip)}</circle>'
            )
        case Words(x, y, text, fill, size, anchor, bold):
            weight = ' font-weight="600"' if bold else ""
            return (
                f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"{weight} '
                f'fill="var(--{fill})">{escape(text)}</text>'
            )


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
