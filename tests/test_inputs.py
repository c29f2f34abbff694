"""Every kind of picture and mask a call takes: the same pixels give the same answer, others are refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_api import fake_model

from pam_edge import IntegrityError, UsageError, load_image, load_mask
from pam_edge.image.image_files import file_bytes

PHOTO = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
GREY = PHOTO[:, :, 0]
INSIDE = np.zeros((60, 80), bool)
INSIDE[10:30, 20:50] = True


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


class Wrapped:
    """An array of another library: nothing but `__array__`."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)


class Interface:
    def __init__(self, array: np.ndarray) -> None:
        self.kept, self.__array_interface__ = array, array.__array_interface__


class Dlpack:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class Pipe:
    """A file that cannot seek."""

    def __init__(self, raw: bytes) -> None:
        self.read = io.BytesIO(raw).read


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def torch_of(make: Callable[[Any], Any]) -> Callable[[Path], Any]:
    return lambda path: make(pytest.importorskip("torch"))


CHW = np.ascontiguousarray(PHOTO.transpose(2, 0, 1))
SAME: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "Path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview of a file": lambda path: memoryview(path.read_bytes()),
    "memoryview of pixels": lambda path: memoryview(PHOTO),
    "BytesIO at its end": lambda path: (lambda b: (b.seek(0, 2), b)[1])(io.BytesIO(path.read_bytes())),
    "open file": lambda path: path.open("rb"),
    "pipe": lambda path: Pipe(path.read_bytes()),
    "PIL": lambda path: Image.fromarray(PHOTO),
    "PIL, lazy": Image.open,
    "numpy": lambda path: PHOTO,
    "numpy, not contiguous": lambda path: np.asfortranarray(PHOTO),
    "numpy, read-only": lambda path: read_only(PHOTO),
    "numpy, RGBA": lambda path: np.dstack([PHOTO, np.full((60, 80), 255, np.uint8)]),
    "float32": lambda path: PHOTO.astype(np.float32) / 255,
    "float64": lambda path: PHOTO / 255,
    "big-endian floats": lambda path: (PHOTO / 255).astype(">f4"),
    "__array__": lambda path: Wrapped(PHOTO),
    "__array_interface__": lambda path: Interface(PHOTO),
    "DLPack": lambda path: Dlpack(PHOTO),
    "torch, CHW": torch_of(lambda torch: torch.from_numpy(CHW.copy())),
    "torch, CHW floats": torch_of(lambda torch: torch.from_numpy(CHW / np.float32(255))),
    "torch, HWC": torch_of(lambda torch: torch.from_numpy(PHOTO.copy())),
    "torch, with a gradient": torch_of(
        lambda torch: torch.nn.Parameter(torch.from_numpy(CHW / np.float32(255)))
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_pixels_give_the_same_result(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(PHOTO))
    pam, _ = fake_model(tmp_path / "bundle")
    source = SAME[name](path)
    result = pam(source, point=(40, 30), task="brief")
    assert np.array_equal(np.asarray(result.image), PHOTO)
    assert result.to_dict() == pam(PHOTO, point=(40, 30), task="brief").to_dict()
    assert pam.cache["image_misses"] == 1  # known by its content
    if hasattr(source, "close"):
        source.close()


def test_grey_pictures_and_half_precision() -> None:
    grey = np.asarray(load_image(GREY))
    assert np.array_equal(grey, np.dstack([GREY] * 3))
    assert np.array_equal(np.asarray(load_image(GREY[:, :, None])), grey)
    assert np.array_equal(np.asarray(load_image(GREY / 255)), grey)
    torch = pytest.importorskip("torch")
    assert np.array_equal(np.asarray(load_image(torch.from_numpy(GREY.copy())[None])), grey)
    half = load_image(torch.full((3, 4, 5), 0.5, dtype=torch.bfloat16))
    assert half.size == (5, 4) and half.getpixel((0, 0)) == (128, 128, 128)


def test_what_the_caller_holds_stays_as_it_is(tmp_path: Path) -> None:
    file = io.BytesIO(b"head" + png(PHOTO))
    file.seek(4)
    with pytest.raises(IntegrityError):
        load_image(file)  # read from its beginning
    assert file.tell() == 4
    frames = [Image.new("RGB", (40, 30), c) for c in ("red", "lime", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:])
    standing = Image.open(out)
    standing.seek(2)
    before = standing.info.copy(), standing.mode, standing.size
    loaded = load_image(standing)
    assert loaded.getpixel((5, 5)) == (0, 0, 255) and standing.tell() == 2
    assert (standing.info.copy(), standing.mode, standing.size) == before
    loaded.putpixel((5, 5), (1, 2, 3))
    assert load_image(standing).getpixel((5, 5)) == (0, 0, 255)
    array = PHOTO.copy()
    load_image(array).putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(array, PHOTO)


class NoCpu:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("it lives on an accelerator")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (CHW, r"\[channels, height, width\]; give x.transpose\(1, 2, 0\)"),
        (PHOTO[None], r"a batch of them: give one at a time, batch\[0\]"),
        (PHOTO.astype(np.int64), r"x.astype\(np.uint8\)"),
        (PHOTO.astype(np.uint16), r"choose what to show"),
        (INSIDE, r"\* 255"),
        (PHOTO[:, :, :2], r"1, 3 \(RGB\) or 4 \(RGBA\)"),
        (np.array("x"), "no picture"),
        (np.array([["a"]]), "no picture"),
        (PHOTO.astype(np.float32), "from 0 to 1, this one from 0 to 255"),
        (PHOTO / 255 - 0.5, "from 0 to 1"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4), np.inf, np.float16), "infinity"),
        (NoCpu(), "copy it to the CPU"),
        (None, "cv2.imread"),
        (5, "int is no picture: give a path"),
        ([[1, 2], [3, 4]], "list is no picture"),
        (np.ndarray, "type is no picture"),
        ("https://example.org/a.jpg", "download it first"),
        (io.StringIO("text"), "binary mode"),
        ("no/such.jpg", "no picture at"),
    ],
)
def test_what_is_no_picture_says_what_to_give(source: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_image(source)


def test_a_closed_file_and_a_tensor_that_is_none(tmp_path: Path) -> None:
    closed = io.BytesIO(b"")
    closed.close()
    with pytest.raises(UsageError, match="closed"):
        load_image(closed)
    torch = pytest.importorskip("torch")
    for tensor, says in ((torch.zeros(2, 3, 4, 5), "batch"), (torch.zeros(3, 4, 5).to_sparse(), "dense")):
        with pytest.raises(UsageError, match=says):
            load_image(tensor)


def test_nothing_is_read_beyond_the_limit() -> None:
    class Endless:
        def read(self, size: int) -> bytes:
            return bytes(size)

    with pytest.raises(IntegrityError, match="over 1 MiB"):
        file_bytes(Endless(), limit=1 << 20)
    with pytest.raises(IntegrityError, match="over 0 MiB"):
        file_bytes(b"12345", limit=4)


# --- masks ----------------------------------------------------------------------------------------

MASKS: dict[str, Any] = {
    "bool": INSIDE,
    "0 and 1": INSIDE.astype(np.uint8),
    "0 and 255": INSIDE.astype(np.uint8) * 255,
    "uint16, 0 and 1": INSIDE.astype(np.uint16),
    "uint16, 0 and 1000": INSIDE.astype(np.uint16) * 1000,
    "int64": INSIDE.astype(np.int64),
    "float, 0 and 1": INSIDE.astype(np.float32),
    "probabilities": np.where(INSIDE, 0.8, 0.3),
    "[1, h, w]": INSIDE[None],
    "[h, w, 1]": INSIDE[:, :, None],
    "RGB": np.dstack([INSIDE.astype(np.uint8) * 255] * 3),
    "PIL, 1 bit": Image.fromarray(INSIDE),
    "PIL, L": Image.fromarray(INSIDE.astype(np.uint8)),
    "PIL, I;16": Image.fromarray(INSIDE.astype(np.uint16)),
    "PIL, I": Image.fromarray(INSIDE.astype(np.int32) * 70_000),
    "PIL, F": Image.fromarray(INSIDE.astype(np.float32)),
    "__array__": Wrapped(INSIDE),
    "bytes": png(INSIDE.astype(np.uint8) * 255),
    "file": io.BytesIO(png(INSIDE.astype(np.uint16) * 1000)),
}


@pytest.mark.parametrize("name", MASKS)
def test_one_rule_for_every_mask(tmp_path: Path, name: str) -> None:
    assert np.array_equal(load_mask(MASKS[name]), INSIDE)
    pam, _ = fake_model(tmp_path)
    assert np.array_equal(pam(PHOTO, mask=MASKS[name], tasks=[]).prompt.mask, INSIDE)


def test_a_torch_mask() -> None:
    torch = pytest.importorskip("torch")
    for mask in (torch.from_numpy(INSIDE.copy()), torch.from_numpy(INSIDE.astype(np.float32))[None]):
        assert np.array_equal(load_mask(mask), INSIDE)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.where(INSIDE, 5.0, -5.0), "logits > 0"),
        (Image.fromarray(np.where(INSIDE, 5, -5).astype(np.int32)), "below 0"),
        (np.where(INSIDE, np.nan, 0.0), "NaN"),
        (np.zeros(5), r"\[h, w\]"),
        (INSIDE.astype(complex), "bool, integers or floats"),
    ],
)
def test_masks_that_mean_nothing(mask: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_mask(mask)
