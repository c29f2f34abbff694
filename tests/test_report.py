"""`pam-edge report`: charts of made-up rows, the page around them, and what growth is called."""

from __future__ import annotations

import io
import math
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from command import pam_edge, refused
from PIL import Image
from sample_rows import accuracy, everything, growing, one_click
from test_rows import HERE, ROW

from pam_edge.benchmarks.growth import fit
from pam_edge.benchmarks.report.axes import apart
from pam_edge.benchmarks.report.growing import growths
from pam_edge.benchmarks.report.page import all_charts, page
from pam_edge.benchmarks.report.palette import COLOURS, contrast
from pam_edge.benchmarks.report.png import png
from pam_edge.benchmarks.report.scales import Scale, told_time
from pam_edge.benchmarks.report.shapes import Box, Chart, Dot, Words, wide
from pam_edge.benchmarks.report.shapes import Path as Line
from pam_edge.benchmarks.report.svg import svg
from pam_edge.benchmarks.rows import put_rows


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Chart]]:
    return all_charts(everything(), accuracy())


def test_every_section_has_its_charts(drawn: dict[str, list[Chart]]) -> None:
    counts = {name: len(charts) for name, charts in drawn.items()}
    assert counts == {"stages": 3, "schemes": 2, "decode": 2, "memory": 3, "devices": 1, "growth": 2}
    names = [chart.name for charts in drawn.values() for chart in charts]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[a-z0-9.-]+", name) for name in names)


def test_nothing_lies_outside_its_chart(drawn: dict[str, list[Chart]]) -> None:
    for chart in (chart for charts in drawn.values() for chart in charts):
        for shape in chart.shapes:
            match shape:
                case Box(x, y, width, height):
                    places = [(x, y), (x + width, y + height)]
                case Line(points):
                    places = list(points)
                case Dot(x, y):
                    places = [(x, y)]
                case Words(x, y, text, _, size, anchor):
                    length = wide(text, size)
                    left = x - length * {"start": 0, "middle": 0.5, "end": 1}[anchor]
                    places = [(left, y - size), (left + length, y)]
            for x, y in places:
                assert -1 <= x <= chart.width + 1 and -1 <= y <= chart.height + 1, (chart.name, shape)


def test_a_waterfall_s_bars_follow_each_other(drawn: dict[str, list[Chart]]) -> None:
    bars = [shape for shape in drawn["stages"][0].shapes if isinstance(shape, Box)]
    assert len(bars) == 6
    for before, after in pairwise(bars):
        assert after.x == pytest.approx(before.x + before.width, abs=1.5)
    assert bars[5].width / bars[1].width == pytest.approx(1100 / 900, rel=0.01)


def test_decoding_is_shown_against_memory(drawn: dict[str, list[Chart]]) -> None:
    words = [shape.text for shape in drawn["decode"][0].shapes if isinstance(shape, Words)]
    assert "memory: 36.0 GB/s" in words
    assert "nano int4: 28, 70% of memory" in words


def test_the_page_fetches_nothing_and_says_what_is_missing(drawn: dict[str, list[Chart]]) -> None:
    text = page(everything(), drawn)
    assert not re.search(r"<script|<link|src=|url\(|https?://|@import", text)
    assert "the device went away" in text and "prefers-color-scheme:dark" in text
    assert "linear: 900 ms and 500 ms for each click" in text
    empty = page([ROW], all_charts([ROW], []))
    assert empty.count("Not measured: ") == 7
    busy = msgspec.structs.replace(ROW.machine, device="<b>&")
    assert "<b>&" not in page([msgspec.structs.replace(ROW, machine=busy)], all_charts([], []))


def test_charts_are_well_formed_and_named(drawn: dict[str, list[Chart]]) -> None:
    for chart in (chart for charts in drawn.values() for chart in charts):
        root = ElementTree.fromstring(svg(chart))
        assert root.attrib["role"] == "img" and chart.title in root.attrib["aria-label"]


def test_pictures_are_drawn_in_light_and_dark(drawn: dict[str, list[Chart]]) -> None:
    chart = drawn["growth"][0]
    light, dark = (Image.open(io.BytesIO(png(chart, name))) for name in ("light", "dark"))
    assert light.size == dark.size and light.size[0] == 2 * (chart.width + 40)
    assert light.getpixel((2, 2)) == (255, 255, 255) and dark.getpixel((2, 2)) == (0x19, 0x1E, 0x25)
    colours = {colour for _, colour in dark.getcolors(1 << 24) or []}
    assert tuple(int(COLOURS["dark"]["s0"][i : i + 2], 16) for i in (1, 3, 5)) in colours


@pytest.mark.parametrize("light", ["light", "dark"])
def test_colours_can_be_told_from_the_card(light: str) -> None:
    colours = COLOURS[light]  # type: ignore[index]
    assert all(contrast(colours[f"s{n}"], colours["card"]) >= 3 for n in range(8))
    assert all(contrast(colours[role], colours["card"]) >= 4.5 for role in ("ink", "soft", "warn"))
    assert COLOURS["light"].keys() == COLOURS["dark"].keys()


X = (1, 4, 16, 64)


@pytest.mark.parametrize(
    ("costs", "name"),
    [
        ([5.0, 5.2, 4.9, 5.1], "constant"),
        ([3 * n + 10 for n in X], "linear"),
        ([3 * n for n in X], "linear"),
        ([n**2 + 3 for n in X], "worse than linear"),
        ([0.02 * n**2 + n + 20 for n in X], "worse than linear"),
        ([n**0.5 for n in X], "less than linear"),
        ([10, 5, 20, 11], "unclear"),
    ],
)
def test_growth_is_named(costs: list[float], name: str) -> None:
    found = fit(X, costs)
    assert found is not None and found.growth == name
    if name == "linear":
        assert found.each == pytest.approx(3) and found.at(100) == pytest.approx(costs[0] + 297)


def test_growth_is_not_named_from_two_points_and_noise_allows_more() -> None:
    assert fit([1, 2], [1, 2]) is None and fit([1, 1, 1, 2], [1, 1, 1, 2]) is None
    assert fit([1, 2, 3], [0, 1, 2]) is None
    jumps = fit([256, 512, 1024, 2048], [1.3, 1.4, 5.5, 7.0])  # steepest in the middle
    assert jumps is not None and jumps.growth == "unclear"
    rough = [100, 126, 100, 126]
    assert fit(X, rough).growth != "constant" and fit(X, rough, spread=0.1).growth == "constant"  # type: ignore[union-attr]


def test_curves_are_of_rows_that_differ_in_one_kind_of_work() -> None:
    rows = growing("clicks", "clicks", "total", {1: 10, 4: 40, 16: 160})
    rows += growing("clicks", "clicks", "mask", {1: 10, 4: 10})  # too few
    (grown,) = growths(rows)
    assert grown.curve.axis == "clicks" and grown.words == "linear: 10 ms for each click"


def test_labels_keep_their_distance_and_their_order() -> None:
    moved = apart([50, 52, 51, 10], 16, 0, 80)
    assert moved[3] == 10 and moved[0] < moved[2] < moved[1] <= 80
    assert min(abs(a - b) for i, a in enumerate(moved) for b in moved[:i]) >= 15.9


def test_scales_and_times() -> None:
    even, ratio = Scale(0, 10, 0, 100), Scale(1, 1000, 0, 90, log=True)
    assert even(5) == 50 and even.ticks() == [0, 2, 4, 6, 8, 10]
    assert ratio(10) == pytest.approx(30) and ratio.ticks() == [1, 10, 100, 1000]
    assert [told_time(t) for t in (5e9, 1.234e8, 1.5e6, 999)] == ["5 s", "123 ms", "1.5 ms", "999 ns"]
    assert not math.isnan(ratio(1))


def test_the_command_writes_page_and_pictures(tmp_path: Path) -> None:
    rows, lines, out = tmp_path / "a.jsonl", tmp_path / "schemes.jsonl", tmp_path / "page.html"
    put_rows(rows, one_click())
    lines.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in accuracy()))
    result = pam_edge("report", rows, lines, "--out", out, "--png", tmp_path / "png")
    assert result.code == 0 and "pictures: 8" in result.err
    assert out.read_text().startswith("<!doctype html>") and len(list((tmp_path / "png").glob("*.png"))) == 8


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("{}\n")
    (tmp_path / "empty.jsonl").write_text("")
    out = tmp_path / "page.html"
    refused(pam_edge("report", tmp_path / "none.jsonl", "--out", out), 2, "no file of rows")
    refused(pam_edge("report", tmp_path / "bad.jsonl", "--out", out), 6, "line 1 is no row")
    refused(pam_edge("report", tmp_path / "empty.jsonl", "--out", out), 2, "hold no row")
    refused(pam_edge("report", tmp_path / "empty.jsonl", "--out", tmp_path / "page.pdf"), 2, "--out")
    assert not out.exists() and HERE.device == "local"


def test_committed_rows_make_a_page(tmp_path: Path) -> None:
    results = sorted((Path(__file__).parents[1] / "benchmarks" / "results").glob("*.jsonl"))
    results = [path for path in results if path.name != "exports.jsonl"]  # exports have rows of their own
    assert pam_edge("report", *results, "--out", tmp_path / "page.html").code == 0
