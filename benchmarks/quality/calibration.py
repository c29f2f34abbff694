"""What a scheme is calibrated on, as the command line names it: the rendered world, or a folder of pictures.

Scenes are of the split that nano was trained on, never those it is measured on. Knows no graph.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pam_edge.benchmarks.synthetic.clicks import random_click
from pam_edge.benchmarks.synthetic.scene import nth_seed, scene
from pam_edge.bundle import builtin
from pam_edge.core.errors import UsageError
from pam_edge.image.masks import bounds
from pam_edge.image.preprocess import Prompt
from pam_edge.quantize.calibration import PICTURES, Sample, Samples, drawn_samples, folder_samples

WORLD = "world"
SEED = 5  # of the scenes


def samples_for(choice: str | None, *, variant: str, random: bool, image_size: int) -> Samples:
    """The samples that `choice` (a folder, `world`, or None for the default) means for some weights.

    The default is the world for nano, and drawn pictures for random weights. Raises UsageError where there
    is none, or where a folder holds no pictures.
    """
    if choice is None and random:
        return drawn_samples(image_size)
    if choice == WORLD or (choice is None and variant == builtin.NANO):
        return world_samples()
    if choice is None:
        raise UsageError("this scheme needs pictures to calibrate on: give --calibrate a folder of some")
    return folder_samples(Path(choice))


def world_samples(*, count: int = PICTURES, seed: int = SEED) -> Samples:
    """Scenes of the rendered world, a click on one object and a box around another."""

    def at(n: int) -> Sample:
        drawn = scene(nth_seed(seed, n), "train")
        rng = np.random.default_rng([seed, n])
        clicked, boxed = rng.permutation(len(drawn.objects))[:2]
        x, y = random_click(drawn.objects[clicked].mask, rng)
        box = bounds(drawn.objects[boxed].mask)
        return Sample(drawn.image, (Prompt(points=((x, y, 1),)), Prompt(box=box)))

    return Samples(f"{count} scenes of the rendered world, seed {seed}", count, at)
