"""Scenes of the rendered world as cases for an evaluation: held-out combinations, one click an object.

Knows no model; what is true of a scene the world says itself. Random clicks are those of the files the world
writes (`synthetic/write.py`), so both ways to the same scenes give the same figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from pam_edge.benchmarks.quality.cases import Ask, Case, Picture, Source
from pam_edge.benchmarks.synthetic.answers import TASKS, answer, named_colour
from pam_edge.benchmarks.synthetic.clicks import centre_click, random_click
from pam_edge.benchmarks.synthetic.combos import Split
from pam_edge.benchmarks.synthetic.scene import Scene, nth_seed, scene
from pam_edge.core.errors import UsageError
from pam_edge.text.tokenization import Lang

MOST = 1_000_000  # scenes of a seed that are no other seed's
SPLIT: Split = "heldout"
# Anywhere inside an object, as people do; or its deepest pixel, as SAM is evaluated (arXiv 2304.02643, 7.1).
Click = Literal["random", "centre"]


def world_source(
    seed: int, n: int, *, langs: Sequence[Lang], per_scene: int | None = None, click: Click = "random"
) -> Source:
    """The first `n` scenes of a seed. `per_scene` bounds the objects asked about in each (drawn at random);
    None asks about all. `click` says where each object is clicked on.

    Raises UsageError where a number makes no sense.
    """
    check_seed(seed)
    if not 1 <= n <= MOST:
        raise UsageError(f"{n} scenes: give 1 to {MOST}")
    if per_scene is not None and per_scene < 1:
        raise UsageError(f"{per_scene} objects a scene: give at least 1")

    def pictures() -> Iterator[Picture]:
        for i in range(n):
            yield _picture(scene(nth_seed(seed, i), SPLIT), langs=langs, per_scene=per_scene, click=click)

    about = {
        "kind": "world",
        "seed": seed,
        "scenes": n,
        "split": SPLIT,
        "per_scene": per_scene,
        "click": "random inside the mask" if click == "random" else "deepest pixel of the mask",
    }
    return Source(about=about, count=n, pictures=pictures, colour_of=named_colour)


def check_seed(seed: int) -> None:
    """Raise UsageError where a seed is none of the world's."""
    if not 0 <= seed <= 1 << 40:
        raise UsageError(f"world seed {seed}: give 0 to {1 << 40}")


def _picture(drawn: Scene, *, langs: Sequence[Lang], per_scene: int | None, click: Click) -> Picture:
    rng = np.random.default_rng(drawn.seed)
    clicks = [random_click(obj.mask, rng) for obj in drawn.objects]
    if click == "centre":
        clicks = [centre_click(obj.mask) for obj in drawn.objects]
    chosen = sorted(rng.permutation(len(drawn.objects))[:per_scene].tolist())
    return Picture(
        f"scene {drawn.seed}",
        drawn.image,
        tuple(_case(drawn, index, clicks[index], langs) for index in chosen),
    )


def _case(drawn: Scene, index: int, click: tuple[int, int], langs: Sequence[Lang]) -> Case:
    obj = drawn.objects[index]
    x, y, w, h = obj.box
    return Case(
        name=f"scene {drawn.seed}, object {index}",
        kind=obj.kind,
        clicks=((*click, 1),),
        box=(x, y, x + w, y + h),
        mask=obj.mask,
        asks=tuple(Ask(task, lang, answer(drawn, index, task, lang)) for lang in langs for task in TASKS),
        colour=obj.colour,
    )
