"""The demo's clip, over a model that sees white squares: its film and its strip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_clip import AWAY, film
from fake_video import video_pam
from fakes import spelled
from PIL import Image, features

from pam_edge.benchmarks.demo import clip
from pam_edge.core.errors import EnvironmentProblem


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> clip.Told:
    def says(region: float, after: tuple[int, ...]) -> list[int]:
        asked = pam.texts.decode(after)
        return spelled("said 3" if "said 2" in asked else "said 2" if "said 1" in asked else "said 1")

    pam, _ = video_pam(tmp_path_factory.mktemp("demo"), says)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clip.synthetic, "clip", lambda seed, split: film())
        return clip.tell(pam)


def test_the_clip_is_followed_and_told_as_a_stream(told: clip.Told) -> None:
    for mask, wanted in zip(told.masks, film().masks, strict=True):
        assert (mask == wanted).all()
    assert [caption.frames for caption in told.captions] == [(0, 15), (16, 31), (32, 47)]
    # Words come while the next segment is followed, and the last after the last frame.
    assert set(told.words[:17]) == {""} and told.words[20] == "said 1"
    assert len(told.words) == len(told.masks) + 1 and told.words[-1] == told.captions[-1].text


def test_the_film_has_every_frame_and_ends_with_all_words(told: clip.Told, tmp_path: Path) -> None:
    clip.animate(told, tmp_path / "clip.webp")
    shown: list[np.ndarray] = []  # by frame: what does not change is stored once, and stays longer
    with Image.open(tmp_path / "clip.webp") as animated:
        for n in range(animated.n_frames):
            animated.seek(n)
            page = np.asarray(animated.convert("RGB"), int)
            shown += [page] * max(1, round(animated.info["duration"] / clip.FRAME_MS))
    count = len(told.masks)
    assert len(shown) == count + round(clip.HOLD_MS / clip.FRAME_MS)
    pages = [shown[n] for n in (0, 1, AWAY[0], count - 1, -1)]
    photo = pages[0].shape[1]  # square, above the words
    first, second, away, before, last = (page[:photo] for page in pages)
    blue = [(page[..., 2] - page[..., 0] > 60).sum() for page in (first, second, away)]
    assert blue[0] > blue[1] + 100 and blue[1] > 500, "the box is on the first frame alone"
    assert blue[2] < 50, "nothing is outlined where it is out of sight"
    assert np.abs(before - last).mean() < 2 and np.abs(pages[3] - pages[4]).mean() > 0, "the last words"


def test_the_strip_shows_the_box_and_every_segment(told: clip.Told) -> None:
    page = np.asarray(clip.strip(told), int)
    step = clip._COLUMN + clip._GAP
    assert page.shape[1] == 4 * step - clip._GAP
    columns = [page[: clip._COLUMN, i * step : i * step + clip._COLUMN] for i in range(4)]
    blue = [(column[..., 2] - column[..., 0] > 60).sum() for column in columns]
    assert min(blue) > 100, "of the segment in which it is covered a frame is shown on which it is not"
    assert blue[0] == max(blue)


def test_without_webp_it_is_said(told: clip.Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(EnvironmentProblem, match="WebP"):
        clip.animate(told, tmp_path / "clip.webp")
    assert not list(tmp_path.iterdir())
