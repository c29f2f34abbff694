"""`pam-edge report`: charts of made-up rows, the page around them, and what growth is called."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import vl_convert
from command import pam_edge, refused
from PIL import Image
from sample_rows import accuracy, everything, growing, one_click
from test_rows import HERE, ROW

from pam_edge.benchmarks.harness.rows import put_rows
from pam_edge.benchmarks.report.drawing import library, png
from pam_edge.benchmarks.report.figure import WIDTH, Figure
from pam_edge.benchmarks.report.growing import growths
from pam_edge.benchmarks.report.growth import fit
from pam_edge.benchmarks.report.page import all_charts, page
from pam_edge.benchmarks.report.palette import COLOURS
from pam_edge.benchmarks.report.units import time_text


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Figure]]:
    return all_charts(everything(), accuracy())


def test_every_section_has_its_charts(drawn: dict[str, list[Figure]]) -> None:
    counts = {name: len(charts) for name, charts in drawn.items()}
    assert counts == {"stages": 3, "schemes": 2, "decode": 2, "memory": 3, "devices": 1, "growth": 2}
    names = [chart.name for charts in drawn.values() for chart in charts]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[a-z0-9.-]+", name) for name in names)


def values(figure: Figure, layer: int = 0) -> list[dict[str, Any]]:
    """The records that a layer of a chart draws."""
    spec = figure.spec()
    data = spec["layer"][layer].get("data") or spec["data"]
    found: list[dict[str, Any]] = data["values"] if "values" in data else spec["datasets"][data["name"]]
    return found


def test_a_waterfall_s_bars_follow_each_other(drawn: dict[str, list[Figure]]) -> None:
    bars = values(drawn["stages"][0])
    assert [bar["stage"] for bar in bars] == [
        "preprocess",
        "encode",
        "mask",
        "perceiver",
        "prefill",
        "decode",
    ]
    for before, after in pairwise(bars):
        assert after["begin"] == pytest.approx(before["end"])
    lengths = [bar["end"] - bar["begin"] for bar in bars]
    assert lengths[5] / lengths[1] == pytest.approx(1100 / 900, rel=0.01)


def test_decoding_is_shown_against_memory(drawn: dict[str, list[Figure]]) -> None:
    figure = drawn["decode"][0]
    assert "36.0 GB/s" in figure.about
    (line, dots) = (values(figure, n) for n in (0, 1))
    assert dots[0]["bundle"] == "nano int4: 28, 70% of memory"
    assert all(one["MB a token"] * one["tokens per second"] == pytest.approx(36e3) for one in line)


def test_every_specification_is_drawn(drawn: dict[str, list[Figure]]) -> None:
    for figure in (figure for figures in drawn.values() for figure in figures):
        assert vl_convert.vegalite_to_svg(figure.spec()).startswith("<svg")
        assert figure.title in figure.spec()["description"]


def specs_of(text: str) -> list[Any]:
    return [json.loads(found) for found in re.findall(r"class=spec[^>]*>(.*?)</script>", text, re.DOTALL)]


def test_the_page_fetches_nothing_and_says_what_is_missing(drawn: dict[str, list[Figure]]) -> None:
    text = page(everything(), drawn)
    own = text.replace(library(), "")  # what draws the charts holds such words as strings
    assert len(own) < len(text) and not re.search(
        r"<link|<script[^>]+src|<img|@import|<iframe|https?://", own
    )
    assert len(specs_of(text)) == sum(map(len, drawn.values()))
    assert "the device went away" in text and "prefers-color-scheme:dark" in text
    assert "linear: 900 ms and 500 ms for each click" in text
    empty = page([ROW], all_charts([ROW], []))
    assert empty.count("Not measured: ") == 7 and "vegaEmbed" not in empty


def test_texts_of_rows_are_shown_never_run() -> None:
    device = "</script><b>&"
    rows = [
        msgspec.structs.replace(row, machine=msgspec.structs.replace(row.machine, device=device))
        for row in one_click()
    ]
    text = page(rows, all_charts(rows, []))
    assert "<b>&" not in text and "<\\/script><b>" not in text
    assert any(device in spec["description"] for spec in specs_of(text))


def test_pictures_are_drawn_in_light_and_dark(drawn: dict[str, list[Figure]]) -> None:
    figure = drawn["growth"][0]
    light, dark = (Image.open(io.BytesIO(png(figure, name))).convert("RGB") for name in ("light", "dark"))
    assert light.size == dark.size and light.size[0] > 2 * WIDTH
    assert light.getpixel((2, 2)) == (255, 255, 255) and dark.getpixel((2, 2)) == (0x19, 0x1E, 0x25)
    colours = {colour for _, colour in dark.getcolors(1 << 24) or []}
    assert tuple(int(COLOURS["dark"]["s0"][i : i + 2], 16) for i in (1, 3, 5)) in colours


def contrast(a: str, b: str) -> float:
    """Of two colours, as WCAG 2.2 defines it: 1 to 21."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


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


def test_times_in_words() -> None:
    assert [time_text(t) for t in (5e9, 1.234e8, 1.5e6, 999)] == ["5 s", "123 ms", "1.5 ms", "999 ns"]


def test_the_command_writes_page_and_pictures(tmp_path: Path) -> None:
    rows, lines, out = tmp_path / "a.jsonl", tmp_path / "schemes.jsonl", tmp_path / "page.html"
    put_rows(rows, one_click())
    lines.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in accuracy()))
    result = pam_edge("report", rows, lines, "--out", out, "--png", tmp_path / "png")
    assert result.code == 0 and "pictures: 8" in result.err
    assert out.read_text().startswith("<!doctype html>") and len(list((tmp_path / "png").glob("*.png"))) == 8


@pytest.mark.parametrize("package", ["altair", "vl_convert", "jinja2"])
def test_without_the_extra(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    for name in [name for name in sys.modules if name.startswith("pam_edge.benchmarks.report")]:
        monkeypatch.delitem(sys.modules, name)
    rows = tmp_path / "rows.jsonl"
    put_rows(rows, [ROW])
    refused(pam_edge("report", rows, "--out", tmp_path / "a.html"), 3, "pip install 'pam-edge[report]'")
    evaluated = pam_edge("eval", "nano", "--world", "1", "--n", "1", "--out", tmp_path / "out")
    refused(evaluated, 3, "pip install 'pam-edge[report]'")
    assert not (tmp_path / "out").exists()  # known before anything slow


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
