"""Scenes of the rendered world as cases for an evaluation: held-out combinations, one random click each.

Knows no model; what is true of a scene the world says itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pam_edge.benchmarks.cases import Ask, Case, Picture, Source
from pam_edge.benchmarks.world.answers import TASKS, answer, named_colour
from pam_edge.benchmarks.world.clicks import random_click
from pam_edge.benchmarks.world.combos import Split
from pam_edge.benchmarks.world.scene import Scene, scene
from pam_edge.errors import UsageError
from pam_edge.prompts import Lang

STRIDE = 1_000_003  # a prime: the scenes of two seeds never meet below this many
SPLIT: Split = "heldout"


def world_source(seed: int, n: int, *, langs: Sequence[Lang], per_scene: int | None = None) -> Source:
    """`n` scenes of a seed: scene i is `scene(seed * STRIDE + i, "heldout")`. `per_scene` bounds the things
    asked about in each (the first ones drawn at random), None asks about all.

    Raises UsageError where a number makes no sense.
    """
    if seed < 0:
        raise UsageError(f"world seed {seed}: give 0 or more")
    if not 1 <= n <= STRIDE:
        raise UsageError(f"{n} scenes: give 1 to {STRIDE}")
    if per_scene is not None and per_scene < 1:
        raise UsageError(f"{per_scene} things a scene: give at least 1")

    def pictures() -> Iterator[Picture]:
        for i in range(n):
            yield _picture(scene(seed * STRIDE + i, SPLIT), langs=langs, per_scene=per_scene)

    about = {
        "kind": "world",
        "seed": seed,
        "scenes": n,
        "split": SPLIT,
        "per_scene": per_scene,
        "click": "random",
    }
    return Source(about=about, count=n, pictures=pictures, colour_of=named_colour)


def _picture(drawn: Scene, *, langs: Sequence[Lang], per_scene: int | None) -> Picture:
    rng = np.random.default_rng(drawn.seed)
    order = rng.permutation(len(drawn.objects))[:per_scene]
    cases = []
    for index in sorted(int(i) for i in order):
        thing = drawn.objects[index]
        x, y = random_click(thing.mask, rng)
        box = thing.box
        cases.append(
            Case(
                name=f"scene {drawn.seed}, thing {index}",
                kind=thing.kind,
                clicks=((x, y, 1),),
                box=(box.x, box.y, box.x + box.w, box.y + box.h),
                mask=thing.mask,
                asks=tuple(
                    Ask(task, lang, answer(drawn, index, task, lang)) for lang in langs for task in TASKS
                ),
                colour=thing.colour,
            )
        )
    return Picture(f"scene {drawn.seed}", drawn.image, tuple(cases))
