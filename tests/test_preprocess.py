"""Pictures in every mode and state of damage; clicks, boxes and masks to model coordinates."""

from __future__ import annotations

import contextlib
import io
import math
import os
from pathlib import Path

import numpy as np
import pytest
from bomb import png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError
from pam_edge.image import preprocess
from pam_edge.image.masks import _linear, area_resample, binarize, bounds
from pam_edge.image.preprocess import Prompt, encode_prompt, load_image, load_mask, pixels

GOLDEN = Path(__file__).parent / "golden"


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def photo(size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(5)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    return image.convert(mode)


# --- pictures -------------------------------------------------------------------------------------


def test_path_bytes_image_and_array_are_the_same_picture(tmp_path: Path) -> None:
    image = photo()
    (tmp_path / "a.png").write_bytes(encoded(image, "PNG"))
    sources = [tmp_path / "a.png", str(tmp_path / "a.png"), encoded(image, "PNG"), image, np.asarray(image)]
    for source in sources:
        assert np.array_equal(np.asarray(load_image(source)), np.asarray(image))


def test_pixels_are_sam2s_own_arithmetic() -> None:
    """SAM 2 `load_video_frames`: PIL resize, /255 in double, minus mean and over std in single precision."""
    image = photo((91, 57))
    expected = (np.array(image.resize((64, 64))) / 255.0).astype(np.float32).transpose(2, 0, 1)
    expected -= np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
    expected /= np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
    ours = pixels(image, 64)
    assert ours.dtype == np.float32 and ours.shape == (1, 3, 64, 64)
    assert np.array_equal(ours[0], expected)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16"]
)
def test_every_mode_becomes_rgb(mode: str) -> None:
    if mode in ("I", "I;16"):
        values = (np.arange(12).reshape(3, 4) * 5957).astype(np.uint16 if mode == "I;16" else np.int32)
        loaded = load_image(Image.fromarray(values))
        assert np.array_equal(np.asarray(loaded)[:, :, 1], np.round(values / 257).astype(np.uint8))
    else:
        loaded = load_image(
            photo().convert(mode) if mode != "LAB" else Image.new("LAB", (40, 30), (128, 128, 128))
        )
    assert loaded.mode == "RGB"


def test_sixteen_bit_png_keeps_its_range() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    loaded = np.asarray(load_image(encoded(Image.fromarray(values), "PNG")))
    assert loaded[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparency_is_flattened_onto_white() -> None:
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    image.putpixel((1, 0), (200, 0, 0, 255))
    loaded = np.asarray(load_image(encoded(image, "PNG")))
    assert loaded.tolist() == [[[255, 255, 255], [200, 0, 0]]]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    loaded = np.asarray(load_image(encoded(palette, "PNG", transparency=0)))
    assert loaded.tolist() == [[[255, 255, 255], [200, 0, 0]]]


def test_a_phones_photo_is_turned_upright() -> None:
    upright = photo((40, 30))
    lying = upright.transpose(Image.Transpose.ROTATE_90)  # the sensor's picture; orientation 6 turns it back
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = load_image(encoded(lying, "PNG", exif=exif))
    assert loaded.size == (40, 30)
    assert np.array_equal(np.asarray(loaded), np.asarray(upright))
    # Loading what was loaded does not turn it again.
    assert np.array_equal(np.asarray(load_image(loaded)), np.asarray(upright))


def test_an_animations_file_gives_its_first_frame_and_an_image_the_one_it_stands_at() -> None:
    frames = [Image.new("RGB", (8, 6), c) for c in ((255, 0, 0), (0, 255, 0))]
    raw = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    animated = Image.open(io.BytesIO(raw))
    animated.seek(1)
    assert np.asarray(load_image(raw))[0, 0].tolist() == [255, 0, 0]
    assert np.asarray(load_image(animated))[0, 0].tolist() == [0, 255, 0]
    assert animated.tell() == 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_file_cut_short_is_damage(form: str) -> None:
    whole = encoded(photo((300, 200)), form)
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(IntegrityError, match=r"damaged|not a picture"):
            load_image(whole[: int(len(whole) * share)])


@pytest.mark.parametrize(
    "raw", [b"", b"\0" * 100, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", b"hello"]
)
def test_what_is_no_picture_says_so(raw: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"not a picture.*JPEG"):
        load_image(raw)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_flipped_bytes_never_escape_the_error_tree(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    raw = bytearray(encoded(photo((20, 16)), form))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(IntegrityError, UsageError):
        assert load_image(bytes(raw)).mode == "RGB"


@pytest.mark.parametrize("size", [(60_000, 60_000), (14_000, 10_000), (40_000, 10)])
@pytest.mark.filterwarnings("error")
def test_absurd_sizes_are_refused_before_decoding(size: tuple[int, int]) -> None:
    with pytest.raises(IntegrityError, match=r"over the limit.*shrink"):
        load_image(png(*size))


def test_no_such_file_is_usage(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path, "a\0b"):
        with pytest.raises(UsageError, match=r"picture|read"):
            load_image(path)


def test_only_plain_files_of_a_sane_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # nobody ever writes into it: reading would wait for ever
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(UsageError, match="device or a pipe"):
            load_image(path)
        with pytest.raises(UsageError, match="device or a pipe"):
            load_mask(path)
    with (tmp_path / "huge.png").open("wb") as f:
        f.truncate(preprocess.MAX_FILE_BYTES + 1)
    with pytest.raises(IntegrityError, match="over 256 MiB"):
        load_image(tmp_path / "huge.png")


def test_an_unreadable_file_is_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(EnvironmentProblem, match="permissions"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5, 3), np.complex64),
        np.zeros((5, 5, 2), np.uint8),
        np.zeros((3, 5, 5, 3), np.uint8),
        np.zeros(5, np.uint8),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray) -> None:
    with pytest.raises(UsageError, match="uint8"):
        load_image(array)


def test_float_pictures_have_no_known_range() -> None:
    with pytest.raises(UsageError, match="range"):
        load_image(Image.new("F", (4, 4), 0.5))
    with pytest.raises(UsageError, match="range"):
        load_image(Image.fromarray(np.full((4, 4), 70_000, np.int32)))


# --- prompts --------------------------------------------------------------------------------------

SIZE = (30, 40)  # h, w


def encode(prompt: Prompt, slots: int | None = None, **more: np.ndarray) -> dict[str, np.ndarray]:
    return encode_prompt(prompt, size=SIZE, image_size=64, slots=slots, **more)


def test_box_comes_first_then_clicks() -> None:
    feeds = encode(Prompt(points=((10, 15), (20, 3, 0)), box=(4, 6, 40, 30)))
    expected = [[4 / 40, 6 / 30], [1, 1], [10 / 40, 15 / 30], [20 / 40, 3 / 30]]
    assert np.allclose(feeds["point_coords"], np.array([expected]) * 64)
    assert feeds["point_labels"].tolist() == [[2, 3, 1, 0]]
    assert feeds["has_mask"].tolist() == [0] and not feeds["mask_prompt"].any()
    assert {f.dtype for f in feeds.values()} == {np.dtype(np.float32)}


def test_golden_prompts_scale_as_the_original() -> None:
    """`points / (width, height) * size`, in single precision and in that order."""
    feeds = encode_prompt(Prompt(points=((235, 150),)), size=(240, 320), image_size=1024, slots=None)
    x, y = (
        np.float32(235) / np.float32(320) * np.float32(1024),
        np.float32(150) / np.float32(240) * np.float32(1024),
    )
    assert feeds["point_coords"].tolist() == [[[x, y]]]


def test_empty_slots_are_padded_and_counted() -> None:
    feeds = encode(Prompt(points=((1, 2), (3, 4, 0))), slots=5)
    assert feeds["point_labels"].tolist() == [[1, 0, -2, -2, -2]]
    assert feeds["point_coords"].shape == (1, 5, 2) and not feeds["point_coords"][0, 2:].any()
    assert encode(Prompt(points=((1, 2),), box=(0, 0, 3, 3)), slots=3)["point_labels"].tolist() == [[2, 3, 1]]
    with pytest.raises(UsageError, match=r"2 clicks and a box need 4 point slots; this bundle has 3"):
        encode(Prompt(points=((1, 2), (3, 4)), box=(0, 0, 3, 3)), slots=3)


def test_a_mask_alone_gives_one_point_that_is_none() -> None:
    mask = np.zeros(SIZE, bool)
    mask[5:20, 8:30] = True
    free, fixed = encode(Prompt(mask=mask)), encode(Prompt(mask=mask), slots=4)
    assert free["point_labels"].tolist() == [[-1]] and free["point_coords"].tolist() == [[[0, 0]]]
    assert fixed["point_labels"].tolist() == [[-1, -2, -2, -2]]
    assert free["has_mask"].tolist() == [1] and free["mask_prompt"].shape == (1, 1, 16, 16)
    assert set(np.unique(free["mask_prompt"])) >= {-10.0, 10.0}
    covered = (free["mask_prompt"].mean() + 10) / 20
    assert math.isclose(covered, mask.mean(), rel_tol=1e-4)  # area is kept, whatever the grid


def test_refinement_passes_the_earlier_logits_clamped() -> None:
    earlier = np.linspace(-100, 100, 256, dtype=np.float32).reshape(16, 16)
    feeds = encode(Prompt(points=((1, 2),)), earlier=earlier)
    assert np.array_equal(feeds["mask_prompt"][0, 0], np.clip(earlier, -32, 32)) and feeds[
        "has_mask"
    ].tolist() == [1]
    masked = encode(Prompt(points=((1, 2),), mask=np.ones(SIZE, bool)), earlier=earlier)
    assert np.array_equal(masked["mask_prompt"], feeds["mask_prompt"])  # they take the mask's place


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Prompt(), "empty: give"),
        (lambda: Prompt(points=((math.nan, 2),)), "finite"),
        (lambda: Prompt(points=((1, math.inf),)), "finite"),
        (lambda: Prompt(points=(("a", "b"),)), "numbers"),
        (lambda: Prompt(points=((1, 2, 3),)), "label 3"),
        (lambda: Prompt(points=((1,),)), "x,y"),
        (lambda: Prompt(points=(3,)), "numbers"),
        (lambda: Prompt(box=(5, 5, 5, 9)), "empty or inverted"),
        (lambda: Prompt(box=(9, 5, 5, 9)), "empty or inverted"),
        (lambda: Prompt(box=(1, 2, 3)), "x0,y0,x1,y1"),
        (lambda: Prompt(box=(1, 2, 3, math.nan)), "finite"),
        (lambda: Prompt(mask=np.zeros((3, 4), bool)), "empty"),
        (lambda: Prompt(mask=np.ones((3, 4, 1), bool)), "h, w"),
        (lambda: Prompt(mask=np.ones((3, 4), np.complex64)), "bool, integers or floats"),
        (lambda: Prompt(mask=np.full((3, 4), -1.5)), "below 0"),
        (lambda: Prompt(mask=np.full((3, 4), np.nan)), "NaN"),
        (lambda: Prompt(mask="mask.png"), "load_mask"),
        (lambda: encode(Prompt(points=((40, 2),))), "click 40,2 is outside.*40x30"),
        (lambda: encode(Prompt(points=((2, -0.5),))), "outside"),
        (lambda: encode(Prompt(points=((2, 30),))), "outside"),
        (lambda: encode(Prompt(box=(0, 0, 41, 30))), "box corner 41,30 is outside"),
        (lambda: encode(Prompt(mask=np.ones((40, 30), bool))), "30x40.*40x30"),
    ],
)
def test_prompts_that_make_no_sense(make: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make()


@settings(max_examples=200, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(), st.floats(), st.sampled_from([0, 1])), max_size=4),
    box=st.none() | st.tuples(*[st.floats()] * 4),
    slots=st.none() | st.integers(1, 6),
)
def test_any_prompt_is_refused_or_lands_inside_the_model(
    points: list[tuple[float, float, int]], box: tuple[float, float, float, float] | None, slots: int | None
) -> None:
    try:
        feeds = encode(Prompt(points=tuple(points), box=box), slots=slots)
    except UsageError:
        return
    coords, labels = feeds["point_coords"], feeds["point_labels"]
    assert np.isfinite(coords).all() and coords.min() >= 0 and coords.max() <= 64
    assert labels.shape[1] == coords.shape[1] == (slots or len(points) + 2 * (box is not None))


def test_also_adds_clicks_and_keeps_the_rest() -> None:
    mask = np.ones(SIZE, bool)
    more = Prompt(points=((1, 2),), box=(0, 0, 5, 5), mask=mask).also((3, 4, 0), (5, 6))
    assert more.points == ((1, 2, 1), (3, 4, 0), (5, 6, 1)) and more.box == (0, 0, 5, 5)
    assert np.array_equal(more.mask, mask)


def test_a_mask_file_is_what_is_brighter_than_half(tmp_path: Path) -> None:
    values = np.array([[0, 10, 200, 255]], np.uint8)
    Image.fromarray(values).save(tmp_path / "m.png")
    assert load_mask(tmp_path / "m.png").tolist() == [[False, False, True, True]]
    Image.fromarray((values > 100).astype(np.uint8)).save(
        tmp_path / "labels.png"
    )  # 0 and 1, as label maps have
    assert load_mask(tmp_path / "labels.png").tolist() == [[False, False, True, True]]
    with pytest.raises(UsageError, match="empty"):
        Prompt(mask=load_mask(np.zeros((4, 4), np.uint8)))


def test_a_mask_that_is_transparent_around_the_object() -> None:
    cut_out = np.zeros((4, 6, 4), np.uint8)
    cut_out[1:3, 2:5] = (30, 200, 10, 255)
    inside = cut_out[:, :, 3] > 0
    hidden = cut_out.copy()
    hidden[~inside] = (255, 255, 255, 0)  # bright, but not to be seen
    black = cut_out.copy()
    black[0] = (0, 0, 0, 255)  # opaque, but nothing
    for array in (cut_out, hidden, black):
        for source in (array, Image.fromarray(array), encoded(Image.fromarray(array), "PNG")):
            assert np.array_equal(load_mask(source), inside)
    even = np.full((4, 6, 4), 255, np.uint8)
    even[:, :, :3] *= inside[:, :, None]
    for alpha in (255, 90):
        even[:, :, 3] = alpha
        assert np.array_equal(load_mask(even), inside)
    even[:, :, 3] = 0
    assert not load_mask(even).any()
    palette = Image.fromarray(inside.astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    assert np.array_equal(load_mask(encoded(palette, "PNG", transparency=0)), inside)


# --- masks ----------------------------------------------------------------------------------------


def upsample(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """All of what `binarize` looks at the sign of."""
    return _linear(logits.shape[0], size[0]) @ logits @ _linear(logits.shape[1], size[1]).T


@pytest.mark.parametrize("size", [(240, 320), (16, 16), (7, 300), (1, 1), (64, 64), (1000, 33)])
def test_upsample_is_torchs_bilinear(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    logits = (np.random.default_rng(1).standard_normal((64, 64)) * 20).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None, None], size=size, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    assert np.abs(upsample(logits, size) - theirs).max() < 1e-4


@pytest.mark.parametrize("case", ["box", "points", "click"])
def test_golden_mask_logits(case: str) -> None:
    golden = np.load(GOLDEN / "golden.npz")
    low = golden[f"{case}/pred_masks"][0, 0].astype(np.float32)
    full = golden[f"{case}/mask_logits"][0, 0].astype(np.float32)
    rounding = 2 * np.spacing(np.abs(full).max().astype(np.float16)).astype(
        np.float32
    )  # both are stored as float16
    assert np.abs(upsample(low, (240, 320)) - full).max() <= rounding


def test_binarize_is_upsample_above_zero_in_blocks() -> None:
    logits = np.random.default_rng(2).standard_normal((32, 32)).astype(np.float32)
    whole = upsample(logits, (700, 500))
    mask = binarize(logits, (700, 500))
    assert mask.dtype == np.bool_ and mask.shape == (700, 500)
    assert (mask != (whole > 0))[np.abs(whole) > 1e-5].sum() == 0
    assert mask.any() and not mask.all()


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    shift=st.floats(-3, 1),
    seed=st.integers(0, 99),
)
def test_binarize_misses_nothing_outside_the_box_it_looks_at(
    shape: tuple[int, int], size: tuple[int, int], shift: float, seed: int
) -> None:
    logits = (np.random.default_rng(seed).standard_normal(shape) + shift).astype(np.float32)
    whole = upsample(logits, size)
    clear = np.abs(whole) > 1e-5
    assert np.array_equal(binarize(logits, size)[clear], (whole > 0)[clear])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_area_resample_keeps_area(h: int, w: int, rows: int, columns: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((h, w)) < 0.4
    shares = area_resample(mask, (rows, columns))
    assert shares.shape == (rows, columns) and shares.min() >= 0 and shares.max() <= 1
    assert math.isclose(float(shares.mean()), float(mask.mean()), abs_tol=1e-5)


def test_bounds() -> None:
    mask = np.zeros((10, 12), bool)
    assert bounds(mask) is None
    mask[3, 4] = mask[6, 9] = True
    assert bounds(mask) == (4, 3, 10, 7)


def test_limits_hold_what_phones_take() -> None:
    assert preprocess.MAX_PIXELS > 108_000_000
