"""Training scenes of the rendered world, drawn once into memory-mapped arrays and read many times.

    python -m tools.nano.data --out FOLDER --count 16000 --workers 2

Everything is at nano's input size: pictures squeezed to S x S as at inference, and for every pixel the number
of the annotated object it shows. It knows no model. Seeds 0 .. count-1 of the split `train`, no other.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pam_edge.benchmarks.synthetic import (
    COLOURS,
    KINDS,
    LANGUAGES,
    PATTERNS,
    TASKS,
    Scene,
    answer,
    centre_click,
    scene,
)
from pam_edge.benchmarks.synthetic.draw import Pose
from pam_edge.benchmarks.synthetic.moves import MAX_TURN, Field

SIDE = 256
SLOTS = 12  # annotated objects of a scene, at most
CELLS = 8  # along a side of the picture, where it is asked what a cell shows: nano's image tokens
DEEP = 6  # depth is counted up to this
SIZES = ("small", "medium", "large")
KIND_AT = {k.name: i for i, k in enumerate(KINDS)}
COLOUR_AT = {c.name: i for i, c in enumerate(COLOURS)}
PATTERN_AT = {p: i for i, p in enumerate(PATTERNS)}
USUAL_SIZE = 80.0  # of an object, in a field's units
# What is known of an object: four class numbers (from 0), its box x0, y0, x1, y1 and its centre click x, y,
# both in pixels of the S x S picture, and its pose as in `pose_numbers`.
OBJECT = np.dtype(
    [
        ("kind", "i2"),
        ("colour", "i2"),
        ("pattern", "i2"),
        ("size", "i2"),
        ("box", "f4", 4),
        ("click", "f4", 2),
        ("pose", "f4", 4),
    ]
)


class Rendered(NamedTuple):
    """Memory-mapped scenes. In `owner` 0 is the ground and k the k-th annotated object."""

    images: NDArray[np.uint8]  # [N, S, S, 3]
    owner: NDArray[np.uint8]  # [N, S, S]
    depth: NDArray[np.uint8]  # [N, S, S] how deep a pixel lies in what it shows, 1..DEEP
    objects: NDArray[Any]  # [N, SLOTS] OBJECT
    counts: NDArray[np.uint8]  # [N], 0 where not drawn yet


def open_rendered(folder: Path) -> Rendered:
    """What `main` has drawn so far. Raises SystemExit where an older version drew it."""
    found = Rendered(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Rendered._fields))
    if found.objects.dtype != OBJECT:
        raise SystemExit(f"{folder} holds other fields of objects than this version knows; draw it again")
    return found


def texts_of(folder: Path) -> dict[int, list[dict[str, dict[str, str]]]]:
    """The answers, by scene, object, language and task."""
    found = {}
    for path in sorted(folder.glob("texts-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found[int(row["seed"])] = row["answers"]
    return found


def squeezed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture at nano's input size, as at inference: PIL's bicubic, aspect ratio not kept."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def owners(drawn: Scene) -> NDArray[np.uint8]:
    """Which annotated object each pixel of the squeezed picture shows."""
    whole = np.zeros(drawn.image.shape[:2], np.uint8)
    for number, obj in enumerate(drawn.objects, start=1):
        whole[obj.mask] = number
    return np.asarray(Image.fromarray(whole).resize((SIDE, SIDE), Image.Resampling.NEAREST))


def depth_of(owner: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How many pixels lie between a pixel and the next that shows something else, up to DEEP."""
    inside = np.ones(owner.shape, bool)
    out = np.ones(owner.shape, np.uint8)
    same_x, same_y = owner[:, 1:] == owner[:, :-1], owner[1:] == owner[:-1]
    inside[:, 1:] &= same_x
    inside[:, :-1] &= same_x
    inside[1:] &= same_y
    inside[:-1] &= same_y
    for _ in range(DEEP - 1):
        out += inside
        padded = np.pad(inside, 1, constant_values=True)
        inside = inside & padded[1:-1, 2:] & padded[1:-1, :-2] & padded[2:, 1:-1] & padded[:-2, 1:-1]
    return out


def records(drawn: Scene) -> NDArray[Any]:
    """[objects] OBJECT of one scene."""
    out = np.zeros(len(drawn.objects), OBJECT)
    scale = np.array([SIDE / drawn.width, SIDE / drawn.height], np.float32)
    field = Field(drawn.width, drawn.height, math.sqrt(drawn.width * drawn.height) / 256)
    for row, obj in zip(out, drawn.objects, strict=True):
        row["kind"], row["colour"] = KIND_AT[obj.kind], COLOUR_AT[obj.colour]
        row["pattern"], row["size"] = PATTERN_AT[obj.pattern], SIZES.index(obj.size)
        box = obj.box
        row["box"] = np.array([box.x, box.y, box.x + box.w, box.y + box.h]) * np.tile(scale, 2)
        row["click"] = np.array(centre_click(obj.mask)) * scale
        row["pose"] = pose_numbers(field, obj.pose)
    return out


def pose_numbers(field: Field, pose: Pose) -> tuple[float, float, float, float]:
    """A pose as it is learnt: x and y in 0..1 of the picture, doublings of the usual size, turn in -1..1."""
    doublings = math.log2(pose.size / field.unit / USUAL_SIZE)
    return pose.x / field.width, pose.y / field.height, doublings, pose.angle / MAX_TURN


def shown_in_cells(whose: NDArray[np.uint8], target: int) -> NDArray[np.float32]:
    """How much of each cell of a picture shows `target`: owners [..., S, S] -> [..., CELLS, CELLS]."""
    cell = whose.shape[-1] // CELLS
    here = (whose == target).reshape(*whose.shape[:-2], CELLS, cell, CELLS, cell)
    return here.mean((-3, -1), dtype=np.float32)


def answers_of(drawn: Scene) -> list[dict[str, dict[str, str]]]:
    """Per object, language and task: what is to be said."""
    return [
        {lang: {task: answer(drawn, i, task, lang) for task in TASKS} for lang in LANGUAGES}
        for i in range(len(drawn.objects))
    ]


def _draw(folder: Path, worker: int, workers: int) -> None:
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r+") for name in Rendered._fields]
    images, owner, depth, objects, counts = arrays
    with (folder / f"texts-{worker}.jsonl").open("a", encoding="utf-8") as texts:
        for seed in range(worker, len(counts), workers):
            if counts[seed]:
                continue
            drawn = scene(seed, "train")
            images[seed], owner[seed] = squeezed(drawn.image), owners(drawn)
            depth[seed] = depth_of(owner[seed])
            objects[seed, : len(drawn.objects)] = records(drawn)
            line = {"seed": seed, "answers": answers_of(drawn)}
            texts.write(json.dumps(line, ensure_ascii=False) + "\n")
            texts.flush()
            counts[seed] = len(drawn.objects)  # last: this says that the scene is there


def main() -> None:
    """Draw scenes that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=16000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "images": ((given.count, SIDE, SIDE, 3), np.uint8),
        "owner": ((given.count, SIDE, SIDE), np.uint8),
        "depth": ((given.count, SIDE, SIDE), np.uint8),
        "objects": ((given.count, SLOTS), OBJECT),
        "counts": ((given.count,), np.uint8),
    }
    for name, (shape, dtype) in shapes.items():
        if not (given.out / f"{name}.npy").exists():
            np.lib.format.open_memmap(given.out / f"{name}.npy", mode="w+", shape=shape, dtype=dtype)
    start = time.monotonic()
    crew = [
        multiprocessing.Process(target=_draw, args=(given.out, i, given.workers))
        for i in range(given.workers)
    ]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    (given.out / "drawn.json").write_text(
        json.dumps({"count": given.count, "seconds": time.monotonic() - start})
    )


if __name__ == "__main__":
    main()
