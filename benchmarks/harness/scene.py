"""The picture, the clicks and the tasks that every side is given: a rendered scene, whatever the weights."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from pam_edge.benchmarks import synthetic

TASKS = ("recognize", "explain", "brief", "detailed")
_SEED = 339


@cache
def _scene() -> synthetic.Scene:
    return synthetic.scene(_SEED, split="heldout")


def picture() -> Image.Image:
    """A rendered scene; every encoder scales it to its own size."""
    return Image.fromarray(_scene().image)


def clicks(count: int) -> list[tuple[float, float]]:
    """Different points of that picture, the first in the middle of its biggest object."""
    scene = _scene()
    biggest = max(scene.objects, key=lambda obj: int(obj.mask.sum()))
    height, width = scene.image.shape[:2]
    random = np.random.default_rng(_SEED)
    others = [(float(x) * width, float(y) * height) for x, y in random.uniform(0.05, 0.95, (count - 1, 2))]
    x, y = synthetic.centre_click(biggest.mask)
    return [(float(x), float(y)), *others]


def calibration(count: int) -> list[Image.Image]:
    """Other rendered scenes."""
    return [Image.fromarray(synthetic.scene(seed, split="train").image) for seed in range(count)]


def boxes(count: int) -> list[tuple[float, float, float, float]]:
    """Boxes around objects of that picture, the biggest first; where it has fewer, they are moved aside."""
    scene = _scene()
    objects = sorted(scene.objects, key=lambda obj: -int(obj.mask.sum()))
    height, width = scene.image.shape[:2]
    found: list[tuple[float, float, float, float]] = []
    for number in range(count):
        x, y, w, h = objects[number % len(objects)].box
        aside = 3 * (number // len(objects))
        left, top = min(x + aside, width - 2), min(y + aside, height - 2)
        found.append((left, top, min(left + w, width), min(top + h, height)))
    return found
