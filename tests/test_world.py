"""The rendered world: same seed same scene, masks that are the picture's, words in both languages."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from pam_edge.benchmarks import synthetic
from pam_edge.benchmarks.synthetic.background import background
from pam_edge.benchmarks.synthetic.draw import Look, Pose, Sprite, draw
from pam_edge.benchmarks.synthetic.palette import COLOURS
from pam_edge.benchmarks.synthetic.shapes import shape
from pam_edge.benchmarks.synthetic.stage import Shadow, put_on
from pam_edge.benchmarks.synthetic.texts import COLOUR_ZH, PATTERN_ZH, PLACE_ZH

_DIGEST = """
import hashlib
from pam_edge.benchmarks import synthetic
s = synthetic.scene(11)
print(hashlib.sha256(s.image.tobytes() + b"".join(o.mask.tobytes() for o in s.objects)).hexdigest())
"""


def test_the_same_seed_gives_the_same_scene_in_another_process() -> None:
    done = subprocess.run([sys.executable, "-c", _DIGEST], capture_output=True, text=True, check=True)
    scene = synthetic.scene(11)
    data = scene.image.tobytes() + b"".join(o.mask.tobytes() for o in scene.objects)
    assert done.stdout.strip() == hashlib.sha256(data).hexdigest()
    assert not np.array_equal(scene.image[:200, :200], synthetic.scene(12).image[:200, :200])


def test_held_out_combinations_never_meet_training() -> None:
    train, held = set(synthetic.combos("train")), set(synthetic.combos("heldout"))
    assert not train & held
    assert len(train) + len(held) == len(synthetic.KINDS) * len(synthetic.COLOURS) * len(synthetic.PATTERNS)
    assert 0.12 < len(held) / len(train | held) < 0.18
    for seed in range(25):
        for o in synthetic.scene(seed, "train").objects:
            assert not synthetic.is_held_out(synthetic.Combo(o.kind, o.colour, o.pattern))
        for o in synthetic.scene(seed, "heldout").objects:
            assert synthetic.is_held_out(synthetic.Combo(o.kind, o.colour, o.pattern))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_training_sees_each_kind_colour_and_pattern_of_what_is_held_out(part: int) -> None:
    assert {c[part] for c in synthetic.combos("heldout")} <= {c[part] for c in synthetic.combos("train")}


def test_scenes_keep_their_promises() -> None:
    for seed in range(40):
        scene = synthetic.scene(seed)
        assert scene.image.dtype == np.uint8
        assert scene.image.shape == (scene.height, scene.width, 3)
        assert 256 <= min(scene.image.shape[:2]) <= max(scene.image.shape[:2]) <= 384
        assert 2 <= len(scene.objects) <= 12
        assert np.sum([o.mask for o in scene.objects], axis=0).max() == 1  # nobody shares a pixel
        for o in scene.objects:
            ys, xs = np.nonzero(o.mask)
            assert (xs.min(), ys.min()) == (o.box.x, o.box.y)
            assert (xs.max() + 1, ys.max() + 1) == (o.box.x + o.box.w, o.box.y + o.box.h)
            assert 0.45 <= o.visible <= 1
            assert o.neighbour is None or scene.objects[o.neighbour] is not o


def test_a_mask_is_where_the_picture_changes_when_the_object_is_taken_away() -> None:
    ground = background(np.random.default_rng(3), 256, 256)
    sprites = [
        draw(Look("umbrella", "red", "dotted"), Pose(90, 100, 120, 20)),
        draw(Look("key", "blue", "striped"), Pose(130, 120, 90, -30)),
    ]
    no_shadow = Shadow(0, 0, 0)
    staged = put_on(ground, sprites, no_shadow)
    for number, rest in ((1, sprites[1:]), (2, sprites[:1])):
        without = put_on(ground, rest, no_shadow)
        changed = (np.array(staged.picture) != np.array(without.picture)).any(axis=2)
        mask = staged.owner == number
        assert (changed & mask).sum() >= 0.99 * mask.sum()
        # beyond the mask only the blended rim differs
        grown = np.array(Image.fromarray(mask).convert("L").resize((256, 256))) > 0
        grown = _grown(_grown(grown))
        assert not (changed & ~grown).any()


def test_an_owner_covers_at_least_half_of_its_pixel() -> None:
    sprite: Sprite = draw(Look("cup", "green", "plain"), Pose(128, 128, 100, 10))
    staged = put_on(Image.new("RGB", (256, 256), (200, 200, 200)), [sprite], Shadow(0, 0, 0))
    coverage = Image.new("L", (256, 256), 0)
    coverage.paste(sprite.coverage, (sprite.left, sprite.top))
    assert np.array_equal(staged.owner == 1, np.array(coverage) >= 128)
    assert staged.full == (int((staged.owner == 1).sum()),)


def test_every_text_is_there_in_both_languages() -> None:
    assert len(synthetic.KINDS) >= 32
    for field in ("name", "zh", "definition", "definition_zh", "function", "function_zh"):
        values = [getattr(kind, field) for kind in synthetic.KINDS]
        assert all(values)
        if field != "function":
            assert len(set(values)) == len(values), field
    for kind in synthetic.KINDS:
        assert kind.definition.isascii() and kind.definition.endswith(".")
        assert kind.function.isascii() and kind.function.endswith(".")
        assert kind.definition_zh.endswith("。") and kind.function_zh.endswith("。")
        assert not any(c.isascii() for c in kind.zh + kind.definition_zh + kind.function_zh)
    assert set(COLOUR_ZH) == {c.name for c in COLOURS}
    assert set(PATTERN_ZH) == set(synthetic.PATTERNS)
    assert len(set(PLACE_ZH.values())) == 9


def test_every_kind_has_a_shape_of_its_own() -> None:
    masks = {}
    for kind in synthetic.KINDS:
        points = np.concatenate([part.points for part in shape(kind.name) if part.paint != "hole"])
        assert float(np.ptp(points, axis=0).max()) == pytest.approx(1)
        assert "body" in {part.paint for part in shape(kind.name)}
        sprite = draw(Look(kind.name, "red", "plain"), Pose(64, 64, 100, 0))
        alone = Image.new("L", (128, 128), 0)
        alone.paste(sprite.coverage, (sprite.left, sprite.top))
        masks[kind.name] = np.array(alone) >= 128
    names = sorted(masks)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            overlap = (masks[a] & masks[b]).sum() / (masks[a] | masks[b]).sum()
            assert overlap < 0.92, (a, b, overlap)


def test_colours_are_well_apart() -> None:
    mains = np.array([c.main for c in COLOURS], dtype=float)
    distance = np.linalg.norm(mains[:, None] - mains[None], axis=-1) + 1e9 * np.eye(len(mains))
    assert distance.min() > 80
    for colour in COLOURS:
        assert np.linalg.norm(np.subtract(colour.main, colour.second)) > 80


def test_answers_say_what_is_there_and_can_be_read_back() -> None:
    for seed in range(30):
        scene = synthetic.scene(seed)
        for i, o in enumerate(scene.objects):
            for language in synthetic.LANGUAGES:
                assert (
                    synthetic.named_kind(synthetic.answer(scene, i, "recognize", language), language)
                    == o.kind
                )
                for task in ("brief", "detailed"):
                    text = synthetic.answer(scene, i, task, language)
                    assert synthetic.named_colour(text, language) == o.colour
                    assert synthetic.named_kind(text, language) == o.kind
                    assert text[-1] in ".。"
            detailed = synthetic.answer(scene, i, "detailed", "zh")
            assert ("旁边" in detailed) == (o.neighbour is not None)
            assert o.place is None or PLACE_ZH[o.place] in detailed


def test_clicks_land_inside_and_away_from_the_rim() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:40, 20:60] = True
    assert synthetic.centre_click(mask) in {(x, y) for x in range(34, 46) for y in (24, 25)}
    for _ in range(50):
        x, y = synthetic.random_click(mask, rng)
        assert 22 <= x < 58 and 12 <= y < 38
    thin = np.zeros((9, 9), dtype=bool)
    thin[4] = True
    x, y = synthetic.random_click(thin, rng)
    assert thin[y, x]
    with pytest.raises(ValueError, match="empty"):
        synthetic.centre_click(np.zeros((4, 4), dtype=bool))
    missing = synthetic.correcting_click(mask, mask & (np.arange(80) < 40), rng)
    assert missing is not None and missing[1] == 1 and mask[missing[0][1], missing[0][0]]
    assert synthetic.correcting_click(mask, mask, rng) is None


def test_rendering_is_fast_enough_to_train_on() -> None:
    synthetic.scene(0)
    start = time.process_time()
    for seed in range(20):
        synthetic.scene(seed)
    assert time.process_time() - start < 2  # ten a second; it does about seventy on a quiet core


def _grown(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    return padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:] | mask
