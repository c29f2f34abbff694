"""Shapes of objects one wears or carries. Sheet of 100 x 100 units, nothing thinner than about 8."""

from __future__ import annotations

from pam_edge.benchmarks.synthetic.geometry import (
    XYR,
    Part,
    band,
    bar,
    ellipse,
    mirrored,
    polygon,
    rectangle,
    sector,
    smooth,
)


def hat() -> list[Part]:
    """Wide brim, tall crown, dark band."""
    return [
        Part("body", ellipse(50, 70, 50, 15)),
        Part(
            "body",
            smooth((24, 68), (27, 40), (33, 22), (44, 19), (50, 23), (56, 19), (67, 22), (73, 40), (76, 68)),
        ),
        Part("dark", polygon((25, 52), (75, 52), (77, 67), (50, 71), (23, 67))),
    ]


def boot() -> list[Part]:
    """A high boot on a dark sole."""
    return [
        Part("dark", rectangle(16, 84, 96, 98, radius=4)),
        Part(
            "body",
            smooth((20, 6), (58, 6), (58, 46), (66, 56), (88, 62), (95, 74), (94, 86), (18, 86), (18, 50)),
        ),
        Part("shade", rectangle(14, 2, 63, 20, radius=5)),
    ]


def shirt() -> list[Part]:
    """A T-shirt spread out."""
    half = [(64, 6), (80, 12), (99, 34), (85, 50), (75, 42), (75, 97)]
    return [
        Part("body", polygon(*half, *[(100 - x, y) for x, y in reversed(half)])),
        Part("shade", sector(XYR(50, 6, 15, 14), 0, 180)),
    ]


def trousers() -> list[Part]:
    """Two legs under a dark belt."""
    return [
        Part("body", polygon((22, 4), (78, 4), (90, 98), (60, 98), (50, 42), (40, 98), (10, 98))),
        Part("dark", polygon((22, 2), (78, 2), (80, 16), (20, 16))),
        Part("metal", rectangle(42, 2, 58, 16)),
    ]


def backpack() -> list[Part]:
    """Loop, side straps, front pocket."""
    return [
        Part("dark", band(XYR(50, 16, 14, 12), 8, 175, 365)),
        Part("dark", rectangle(4, 46, 24, 88, radius=9)),
        Part("dark", rectangle(76, 46, 96, 88, radius=9)),
        Part("body", rectangle(15, 14, 85, 99, radius=24)),
        Part("shade", rectangle(27, 60, 73, 92, radius=8)),
        Part("pale", rectangle(27, 60, 73, 69, radius=3)),
    ]


def glasses() -> list[Part]:
    """Round rims, bridge and the beginnings of the temples."""
    return [
        Part("body", bar((6, 26), (14, 44), 11)),
        Part("body", bar((94, 26), (86, 44), 11)),
        Part("body", bar((42, 44), (58, 44), 11)),
        Part("body", ellipse(25, 54, 25, 25)),
        Part("body", ellipse(75, 54, 25, 25)),
        Part("glass", ellipse(25, 54, 14.5)),
        Part("glass", ellipse(75, 54, 14.5)),
    ]


def crown() -> list[Part]:
    """Three points with pearls over a banded rim."""
    return [
        Part("body", polygon((7, 26), (29, 50), (50, 14), (71, 50), (93, 26), (86, 88), (14, 88))),
        Part("pale", ellipse(7, 24, 7.5)),
        Part("pale", ellipse(50, 13, 7.5)),
        Part("pale", ellipse(93, 24, 7.5)),
        Part("shade", polygon((12, 74), (88, 74), (86, 92), (14, 92))),
        Part("pale", ellipse(50, 83, 6)),
    ]


def camera() -> list[Part]:
    """Camera body with a large lens."""
    return [
        Part("dark", rectangle(14, 18, 30, 30, radius=2)),
        Part("body", polygon((32, 28), (38, 12), (64, 12), (70, 28))),
        Part("body", rectangle(2, 24, 98, 88, radius=9)),
        Part("dark", ellipse(50, 58, 25)),
        Part("metal", ellipse(50, 58, 19)),
        Part("glass", ellipse(50, 58, 12)),
        Part("pale", rectangle(78, 32, 91, 43, radius=2)),
    ]


def pencil() -> list[Part]:
    """Eraser, ferrule, shaft, point."""
    return [
        Part("tan", polygon((72, 35), (98, 50), (72, 65))),
        Part("dark", polygon((87, 44), (98, 50), (87, 56))),
        Part("body", rectangle(16, 35, 74, 65)),
        Part("shade", rectangle(16, 57, 74, 65)),
        Part("metal", rectangle(10, 34, 21, 66)),
        Part("shade", rectangle(0, 35, 12, 65, radius=5)),
    ]


def padlock() -> list[Part]:
    """Square lock under a steel bow, keyhole in front."""
    return [
        Part("metal", band(XYR(50, 32, 22, 24), 12, 180, 360)),
        Part("metal", rectangle(22, 31, 34, 52)),
        Part("metal", rectangle(66, 31, 78, 52)),
        Part("body", rectangle(12, 44, 88, 99, radius=9)),
        Part("dark", ellipse(50, 64, 9)),
        Part("dark", polygon((47, 66), (53, 66), (57, 86), (43, 86))),
    ]


def magnet() -> list[Part]:
    """A horseshoe magnet with steel tips."""
    leg = rectangle(8, 48, 34, 76)
    tip = rectangle(8, 74, 34, 96)
    return [
        Part("body", band(XYR(50, 48, 29, 30), 26, 180, 360)),
        Part("body", leg),
        Part("body", mirrored(leg)),
        Part("metal", tip),
        Part("metal", mirrored(tip)),
    ]


def guitar() -> list[Part]:
    """Waisted body, round hole, dark neck."""
    side = [(58, 32), (68, 34), (74, 44), (70, 54), (80, 68), (80, 84), (68, 97)]
    return [
        Part("shade", polygon((39, 0), (61, 0), (63, 16), (37, 16))),
        Part("dark", rectangle(44, 14, 56, 40)),
        Part("body", smooth((50, 32), *side, (50, 100), *[(100 - x, y) for x, y in reversed(side)])),
        Part("dark", rectangle(44, 30, 56, 58)),
        Part("dark", ellipse(50, 60, 10)),
        Part("dark", rectangle(36, 80, 64, 89, radius=2)),
    ]
