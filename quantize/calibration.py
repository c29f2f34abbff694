"""Calibration: pictures go through the float graphs one at a time; what is kept are ranges of activations.

image_encoder -> mask_decoder (clicks and boxes) -> both perceivers, each on what the one before it made of
the same pictures. Everything lies in a folder, a file a run, written when the run is done: an interrupted
calibration goes on where it stopped. Knows graphs by their names and prompts; neither a world nor a bundle.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from pam_edge.bundle.bundle import sha256_of
from pam_edge.bundle.golden import npz_bytes
from pam_edge.core.errors import IntegrityError, UsageError, cannot_write
from pam_edge.core.system_info import return_freed_memory
from pam_edge.image.preprocess import ImageSource, Prompt, encode_prompt, load_image, pixels
from pam_edge.quantize.observe import Array, Observer, Seen, best_range
from pam_edge.quantize.static import ONNXRUNTIME, Range, Static

Arrays = dict[str, Array]
Calibrated = Literal["image_encoder", "mask_decoder", "perceiver", "perceiver_frame"]
CALIBRATED: tuple[Calibrated, ...] = ("image_encoder", "mask_decoder", "perceiver", "perceiver_frame")
PICTURES = 32  # enough: ranges are of tensors, and every picture shows each of them thousands of values
_PICTURE_FILES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture, and what is pointed at in it."""

    image: ImageSource
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class Samples:
    """What to calibrate on: `count` samples, each made when asked for.

    `about` says what they are, and differs where they do: an interrupted calibration goes on by it.
    """

    about: str
    count: int
    at: Callable[[int], Sample]


def folder_samples(folder: Path, *, count: int = PICTURES, seed: int = 0) -> Samples:
    """Pictures of a folder (not of folders in it), drawn if there are more, with drawn clicks and boxes.

    Raises UsageError where it holds none, or one cannot be read.
    """
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURE_FILES)
    except OSError as e:
        raise UsageError(f"cannot read {folder} ({e.strerror}): give a folder of pictures") from e
    if not paths:
        raise UsageError(f"{folder} holds no pictures: give a folder of {', '.join(_PICTURE_FILES)} files")
    order = np.random.default_rng(seed).permutation(len(paths))[:count]
    chosen = [paths[i] for i in sorted(order.tolist())]
    try:
        whole = sha256("".join(sha256_of(path) for path in chosen).encode()).hexdigest()
    except OSError as e:
        raise UsageError(f"cannot read {e.filename or folder} ({e.strerror}): give pictures") from e

    def at(n: int) -> Sample:
        picture = load_image(chosen[n])
        return Sample(picture, _prompts(picture.size, np.random.default_rng([seed, n])))

    about = f"{len(chosen)} of {len(paths)} pictures of a folder (sha256 {whole[:8]}), drawn clicks and boxes"
    return Samples(about, len(chosen), at)


def drawn_samples(size: int, *, count: int = 4, seed: int = 0) -> Samples:
    """Seeded pictures of colours and grain, for random weights: no pictures are theirs."""

    def at(n: int) -> Sample:
        rng = np.random.default_rng([seed, n])
        side = 8
        coarse = rng.integers(0, 256, (side, side, 3)).repeat(-(-size // side), 0).repeat(-(-size // side), 1)
        image = coarse[:size, :size] + rng.normal(0, 12, (size, size, 1))
        return Sample(image.clip(0, 255).astype(np.uint8), _prompts((size, size), rng))

    return Samples(f"{count} seeded pictures of colours and grain: the weights are random", count, at)


def _prompts(size: tuple[int, int], rng: np.random.Generator) -> tuple[Prompt, ...]:
    """A click and a box somewhere in a picture of (width, height)."""
    width, height = size
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    w, h = rng.uniform(0.15, 0.6) * width, rng.uniform(0.15, 0.6) * height
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return (
        Prompt(points=((min(x, width - 1), min(y, height - 1), 1),)),
        Prompt(box=(left, top, left + w, top + h)),
    )


def calibrate(
    name: Calibrated,
    graph: Path,
    tensors: Sequence[str],
    samples: Samples,
    work: Path,
    *,
    image_size: int,
    how: Static = ONNXRUNTIME,
    threads: int = 0,
    tell: Callable[[float], None] = lambda part: None,
) -> dict[str, Range]:
    """Ranges of `tensors` of the float `graph` over all samples.

    `work` is a folder for this bundle's calibration and no other's: the graphs' runs lie there (16 MB a
    picture at PAM's size), to be gone on from and to feed the next graph; the caller removes it at the end.
    mask_decoder needs image_encoder calibrated there before, the perceivers mask_decoder. `tell` hears how
    much is done, 0 to 1. Raises what `samples` raises, IntegrityError where what lies in `work` is damaged or
    not all there, WontFitError on a full disk.
    """
    work.mkdir(parents=True, exist_ok=True)
    runs = _runs(name, samples, work, image_size)
    observer: Observer | None = None
    for done, run in enumerate(runs):
        tell(done / len(runs))
        if run.seen.exists():
            continue
        observer = observer or Observer(graph, tensors, threads=threads)
        feeds, prompts = run.feeds()
        outputs, seen = observer.run(feeds)
        if name in _KEPT:
            _write(run.kept, {key: outputs[key] for key in _KEPT[name]} | prompts)
        rows = {str(i): [*seen[key][:3], *seen[key].some] for i, key in enumerate(tensors)}
        _write(run.seen, {key: np.array(row, np.float32) for key, row in rows.items()})
        del outputs, seen
        return_freed_memory()  # 0.4 GB of holes after a picture of 1024, and more after the next
    del observer  # its weights
    return_freed_memory()
    found: list[list[Seen]] = [[] for _ in tensors]
    for run in runs:
        with _read(run.seen) as held:
            for i, seen_here in enumerate(found):
                low, high, stride, *_ = (row := held[str(i)])[:3].tolist()
                seen_here.append(Seen(low, high, int(stride), row[3:]))
    tell(1.0)
    return {tensor: best_range(seen, how) for tensor, seen in zip(tensors, found, strict=True)}


_KEPT = {  # what of a graph's outputs the next graph reads
    "image_encoder": ("image_embed", "high_res_0", "high_res_1"),
    "mask_decoder": ("region_embed", "mask_tokens"),
}
_AGAIN = "choose another -o to start over"
_ENCODED = ("point_coords", "point_labels", "mask_prompt", "has_mask")


@dataclass(frozen=True)
class _Run:
    """One run of one graph: its feeds, and what is kept for later beside its outputs."""

    feeds: Callable[[], tuple[Arrays, Arrays]]
    kept: Path
    seen: Path


def _runs(name: Calibrated, samples: Samples, work: Path, image_size: int) -> list[_Run]:
    """Every run of a graph, in order."""
    if name == "image_encoder":
        return [
            _run(name, work, f"{n:05}", partial(_look, samples, n, image_size)) for n in range(samples.count)
        ]
    before: Calibrated = "image_encoder" if name == "mask_decoder" else "mask_decoder"
    kept = sorted(work.glob(f"{before}-*.kept.npz"))
    if not kept:
        raise IntegrityError(f"{work} holds no calibration of {before}, which {name} needs; {_AGAIN}")
    if name in ("perceiver", "perceiver_frame"):
        return [
            _run(name, work, path.name.split(".")[0].partition("-")[2], partial(_reread, path))
            for path in kept
        ]
    runs = []
    for path in kept:
        with _read(path) as held:
            prompts = sum(key.endswith("/point_labels") for key in held.files)
        number = path.name.split(".")[0].partition("-")[2]
        runs += [_run(name, work, f"{number}-{j}", partial(_point, path, j)) for j in range(prompts)]
    return runs


def _run(name: Calibrated, work: Path, number: str, feeds: Callable[[], tuple[Arrays, Arrays]]) -> _Run:
    return _Run(feeds, work / f"{name}-{number}.kept.npz", work / f"{name}-{number}.seen.npz")


def _look(samples: Samples, n: int, image_size: int) -> tuple[Arrays, Arrays]:
    sample = samples.at(n)
    picture = load_image(sample.image)
    prompts: Arrays = {}
    for j, prompt in enumerate(sample.prompts):
        size = (picture.height, picture.width)
        encoded = encode_prompt(prompt, size=size, image_size=image_size, slots=None)
        prompts |= {f"{j}/{key}": encoded[key] for key in _ENCODED}
    return {"image": pixels(picture, image_size)}, prompts


def _point(path: Path, j: int) -> tuple[Arrays, Arrays]:
    with _read(path) as held:
        seen = {key: held[key] for key in _KEPT["image_encoder"]}
        encoded = {key: held[f"{j}/{key}"] for key in _ENCODED}
    return {**seen, **encoded, "no_memory": np.ones(1, np.float32)}, {}


def _reread(path: Path) -> tuple[Arrays, Arrays]:
    with _read(path) as held:
        return {key: held[key] for key in held.files}, {}


@contextmanager
def _read(path: Path) -> Iterator[NpzFile]:
    """Arrays are read, and damage in them is found, inside the `with`."""
    try:
        with np.load(path, allow_pickle=False) as held:
            yield held
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as e:
        raise IntegrityError(f"{path} cannot be read ({e}); {_AGAIN}") from e


def _write(path: Path, arrays: Arrays) -> None:
    """The file is whole, or not there."""
    draft = path.with_suffix(".part")
    try:
        with draft.open("wb") as f:
            f.write(npz_bytes(arrays, compress=False))
        draft.replace(path)
    except OSError as e:
        raise cannot_write(path, e) from e
