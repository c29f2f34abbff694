"""The picture, the clicks and the tasks that every side is given: a rendered scene, whatever the weights."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pam_edge.benchmarks import world

TASKS = ("recognize", "explain", "brief", "detailed")
_SEED = 339


def picture() -> Image.Image:
    """A rendered scene; every encoder scales it to its own size."""
    return Image.fromarray(world.scene(_SEED, split="heldout").image)


def clicks(count: int) -> list[tuple[float, float]]:
    """Different points of that picture, the first in the middle of its biggest thing."""
    scene = world.scene(_SEED, split="heldout")
    biggest = max(scene.objects, key=lambda thing: int(thing.mask.sum()))
    height, width = scene.image.shape[:2]
    random = np.random.default_rng(_SEED)
    others = [(float(x) * width, float(y) * height) for x, y in random.uniform(0.05, 0.95, (count - 1, 2))]
    x, y = world.centre_click(biggest.mask)
    return [(float(x), float(y)), *others]


def calibration(count: int) -> list[Image.Image]:
    """Other rendered scenes."""
    return [Image.fromarray(world.scene(seed, split="train").image) for seed in range(count)]
