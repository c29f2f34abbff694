"""The picture of an answer: every size, every script, and that it shows what it should where it should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pam_edge.core.errors import UsageError
from pam_edge.image.preprocess import Prompt
from pam_edge.render.overlay import PALETTE, Shown, draw
from pam_edge.render.text_layout import Face, find_fonts
from pam_edge.render.text_panel import PAPER

GREY = Image.new("RGB", (900, 600), (120, 120, 120))
DISC = np.hypot(*(np.mgrid[:600, :900] - np.array([300, 400])[:, None, None])) < 150


def colour_at(image: Image.Image, x: int, y: int) -> np.ndarray:
    return np.asarray(image, np.float32)[y, x]


def share_near(image: Image.Image, colour: tuple[int, int, int], box: tuple[int, int, int, int]) -> float:
    """Part of a box's pixels that are close to a colour."""
    x0, y0, x1, y1 = box
    pixels = np.asarray(image, np.float32)[y0:y1, x0:x1]
    return float((np.abs(pixels - np.array(colour)).max(axis=2) < 30).mean())


def test_inside_is_tinted_outside_quietened_edge_outlined() -> None:
    made = draw(GREY, [Shown(DISC)])
    assert made.size == GREY.size  # no words, no panel
    inside, outside = colour_at(made, 400, 300), colour_at(made, 30, 30)
    blue = np.array(PALETTE[0])
    assert np.abs(inside - blue).sum() < np.abs(np.array([120, 120, 120]) - blue).sum()
    assert (outside < 95).all() and np.ptp(outside) < 2
    edge = (400 + 146, 296, 400 + 155, 304)
    assert share_near(made, PALETTE[0], edge) > 0.15
    assert share_near(made, PALETTE[0], (400, 250, 420, 270)) == 0


def test_a_thin_mask_and_a_lone_pixel_can_be_seen() -> None:
    for mask in (np.zeros((600, 900), bool) for _ in range(2)):
        mask[200:202, 100:700] = True
        made = np.asarray(draw(GREY, [Shown(mask)]), np.int32)
        assert np.abs(made[201, 400] - made[100, 400]).max() > 40


def test_an_empty_mask_leaves_the_photo_alone() -> None:
    made = draw(GREY, [Shown(np.zeros((600, 900), bool))])
    assert np.array_equal(np.asarray(made), np.asarray(GREY))
    assert np.array_equal(np.asarray(draw(GREY, [])), np.asarray(GREY))


def test_clicks_and_boxes_are_marked_where_they_are() -> None:
    prompt = Prompt(points=((100, 100), (700, 500, 0)), box=(300, 200, 500, 400))
    made = draw(GREY, [Shown(np.zeros((600, 900), bool), prompt)])
    assert share_near(made, (40, 190, 90), (92, 92, 109, 109)) > 0.3
    assert share_near(made, (235, 60, 60), (692, 492, 709, 509)) > 0.3
    assert share_near(made, PALETTE[0], (298, 198, 304, 215)) > 0.3
    assert share_near(made, (255, 255, 255), (395, 198, 405, 203)) > 0.2
    assert share_near(made, (120, 120, 120), (550, 100, 650, 200)) == 1


def test_regions_have_colours_of_their_own_in_photo_and_panel() -> None:
    regions = []
    for i in range(3):
        mask = np.zeros((600, 900), bool)
        mask[200:400, 50 + 250 * i : 250 + 250 * i] = True
        regions.append(Shown(mask, words=(("recognize", f"object {i}"),)))
    made = draw(GREY, regions)
    photo = np.asarray(made)[:600, :900]
    panel = np.asarray(made)[600:] if made.height > 600 else np.asarray(made)[:, 900:]
    assert panel.size
    for i in range(3):
        colour = np.array(PALETTE[i], np.int32)
        for part in (photo, panel):
            assert (np.abs(part.astype(np.int32) - colour).max(axis=2) < 12).sum() > 50


@pytest.mark.parametrize(
    "size", [(1, 1), (2, 900), (900, 2), (16, 16), (320, 240), (700, 1200), (4000, 3000)]
)
def test_every_size_of_photo(size: tuple[int, int]) -> None:
    width, height = size
    mask = np.zeros((height, width), bool)
    mask[: height // 2 + 1, : width // 2 + 1] = True
    prompt = Prompt(points=((0, 0), (width - 1, height - 1, 0)), box=(0, 0, width, height))
    words = [("recognize", "umbrella"), ("explain", "an object that keeps the rain off " * 8)]
    made = draw(Image.new("RGB", size, (90, 140, 90)), [Shown(mask, prompt, words), Shown(~mask)])
    assert made.mode == "RGB" and 840 <= max(made.size) <= 6000
    without = draw(Image.new("RGB", size), [Shown(mask, prompt)])
    assert max(without.size) == min(max(*size, 840), 1600)
    assert made.width > without.width or made.height > without.height


def test_max_side_is_kept() -> None:
    assert draw(GREY, [], max_side=400).size == (400, 267)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match="does not fit"):
        draw(GREY, [Shown(np.ones((800, 600), bool))])


WORDS = "红色的雨伞，放在桌子上。 Ünïcödé 😀 العربية \x00\x1b\t\u200b \n end"


@pytest.mark.parametrize("fonts", [(), None])
def test_no_script_breaks_it(fonts: tuple[()] | None) -> None:
    made = draw(GREY, [Shown(DISC, words=[("识别", WORDS), ("", ""), ("explain", " ")])], fonts=fonts)
    assert made.height > 600 or made.width > 900


def test_a_missing_font_is_said() -> None:
    plain = draw(GREY, [Shown(DISC, words=[("a", "umbrella")])], fonts=())
    lacking = draw(GREY, [Shown(DISC, words=[("a", "雨伞")])], fonts=())
    assert lacking.width * lacking.height > plain.width * plain.height  # one line more: what to install


def test_the_same_input_gives_the_same_picture() -> None:
    region = Shown(DISC, Prompt(points=((400, 300),)), [("recognize", "disc")])
    assert draw(GREY, [region], fonts=()).tobytes() == draw(GREY, [region], fonts=()).tobytes()


def test_words_lie_inside_the_panel() -> None:
    words = [("detailed", "a long story of many words that has to be broken into lines " * 5)]
    made = draw(GREY, [Shown(DISC, words=words)], fonts=())
    pixels = np.asarray(made)
    panel = pixels[600:] if made.height > 600 else pixels[:, 900:]
    paper = tuple(int(PAPER[i : i + 2], 16) for i in (1, 3, 5))
    rims = (panel[0], panel[-1], panel[:, 0], panel[:, -1])
    assert all((rim == paper).all() for rim in rims) and not (panel == paper).all()


# --- type ------------------------------------------------------------------------------------------

FACE = Face((), 20)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("abc wide,. 红伞，。-x\n"), max_size=80), st.integers(30, 400))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    lines = FACE.wrap(text, width)
    hanging = FACE.width("，。,.")
    assert all(FACE.width(line) <= width + hanging or len(line) == 1 for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_lines_break_between_words_and_between_chinese_characters() -> None:
    assert FACE.wrap("two words", FACE.width("two wor")) == ["two", "words"]
    assert FACE.wrap("红色雨伞", FACE.width("红色雨")) == ["红色雨", "伞"]
    assert FACE.wrap("红色雨，伞", FACE.width("红色雨")) == ["红色雨，", "伞"]  # no comma at a line's start
    assert FACE.wrap("", 100) == [""] and FACE.wrap("a\nb", 100) == ["a", "b"]


def test_covers_knows_what_is_missing() -> None:
    assert FACE.covers("plain words") and not FACE.covers("雨")


def test_fonts_are_searched_where_they_are_and_no_file_breaks_it(tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("wqy-microhei.ttc", "deep/NotoSansCJK-Regular.ttc", "Comic.ttf", "readme.txt"):
        (tmp_path / name).write_bytes(b"no font")
    found = find_fonts([str(tmp_path), str(tmp_path / "none")])
    assert [p.name for p in found] == ["NotoSansCJK-Regular.ttc", "wqy-microhei.ttc"]
    assert Face(found, 12).width("a") > 0
