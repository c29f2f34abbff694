"""Which function draws which kind, and its outline brought to a common scale."""

from __future__ import annotations

import functools
from collections.abc import Callable

from pam_edge.benchmarks.synthetic import shapes_home as home
from pam_edge.benchmarks.synthetic import shapes_play as play
from pam_edge.benchmarks.synthetic import shapes_wear as wear
from pam_edge.benchmarks.synthetic.geometry import Part, normalized

_SHAPES: dict[str, Callable[[], list[Part]]] = {
    "key": home.key, "cup": home.cup, "umbrella": home.umbrella, "scissors": home.scissors,
    "hammer": home.hammer, "bottle": home.bottle, "lamp": home.lamp, "clock": home.clock, "book": home.book,
    "hat": wear.hat, "boot": wear.boot, "shirt": wear.shirt, "trousers": wear.trousers,
    "backpack": wear.backpack, "car": play.car, "sailboat": play.sailboat, "airplane": play.airplane,
    "apple": play.apple, "banana": play.banana, "mushroom": play.mushroom, "flower": play.flower,
    "kite": play.kite, "guitar": wear.guitar, "bell": play.bell, "teapot": home.teapot, "fork": home.fork,
    "glasses": wear.glasses, "camera": wear.camera, "pencil": wear.pencil, "crown": wear.crown,
    "magnet": wear.magnet, "padlock": wear.padlock, "gift": play.gift, "ice cream": play.ice_cream,
    "duck": play.duck, "chair": home.chair,
}  # fmt: skip


@functools.cache
def shape(kind: str) -> tuple[Part, ...]:
    """Parts of that kind, first drawn first; bounding box centred on 0, longer side 1, y downwards."""
    return normalized(_SHAPES[kind]())
