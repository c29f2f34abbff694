"""Shapes of objects found about a house. Sheet of 100 x 100 units, nothing thinner than about 8."""

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
    turned,
)


def key() -> list[Part]:
    """Ring, shaft and two teeth."""
    return [
        Part("body", rectangle(38, 40, 100, 58)),
        Part("body", rectangle(64, 50, 77, 78)),
        Part("body", rectangle(87, 50, 100, 84)),
        Part("body", ellipse(25, 50, 27)),
        Part("hole", ellipse(22, 50, 10)),
    ]


def cup() -> list[Part]:
    """A mug with a big handle."""
    return [
        Part("body", band(XYR(70, 50, 19, 20), 11, -100, 100)),
        Part(
            "body",
            smooth(
                (14, 22),
                (74, 22),
                (73, 50),
                (69, 86),
                (60, 92),
                (28, 92),
                (19, 86),
                (15, 50),
            ),
        ),
        Part("shade", ellipse(44, 22, 30, 8)),
    ]


def umbrella() -> list[Part]:
    """Open canopy, rod and hook."""
    dome = [(50 - 49 * c, 54 - 46 * s) for c, s in _half_turn()]
    scallops = [(98, 56), (86, 48), (74, 56), (62, 48), (50, 56), (38, 48), (26, 56), (14, 48), (2, 56)]
    return [
        Part("dark", bar((50, 4), (50, 12), 8)),
        Part("dark", bar((50, 40), (50, 86), 8)),
        Part("dark", band(XYR(61, 86, 11, 11), 8, 0, 180)),
        Part("body", polygon(*dome, *scallops)),
    ]


def scissors() -> list[Part]:
    """Open blades above two ring handles."""
    blade = polygon((43, 60), (56, 55), (79, 8), (73, 2), (64, 8))
    return [
        Part("metal", blade),
        Part("metal", mirrored(blade)),
        Part("body", bar((47, 50), (31, 74), 15)),
        Part("body", bar((53, 50), (69, 74), 15)),
        Part("body", ellipse(27, 79, 23, 21)),
        Part("body", ellipse(73, 79, 23, 21)),
        Part("hole", ellipse(26, 80, 9, 8)),
        Part("hole", ellipse(74, 80, 9, 8)),
        Part("dark", ellipse(50, 52, 6)),
    ]


def hammer() -> list[Part]:
    """Coloured handle under a steel head with a claw."""
    return [
        Part("body", rectangle(38, 26, 60, 100, radius=7)),
        Part("metal", smooth((58, 8), (78, 10), (96, 26), (98, 40), (88, 34), (74, 30), (58, 32))),
        Part("metal", rectangle(30, 7, 66, 33, radius=3)),
        Part("metal", rectangle(10, 3, 33, 37, radius=5)),
    ]


def bottle() -> list[Part]:
    """Cap, neck, shoulders and a label."""
    side = [(61, 10), (61, 30), (66, 38), (73, 46), (75, 56), (75, 92), (70, 98)]
    return [
        Part("body", polygon(*side, *[(100 - x, y) for x, y in reversed(side)])),
        Part("dark", rectangle(36, 0, 64, 14, radius=3)),
        Part("pale", rectangle(25, 66, 75, 84)),
    ]


def lamp() -> list[Part]:
    """A table lamp: shade, stem, foot."""
    return [
        Part("metal", rectangle(45, 46, 55, 90)),
        Part("shade", rectangle(24, 86, 76, 99, radius=6)),
        Part("body", polygon((32, 2), (68, 2), (94, 54), (6, 54))),
        Part("tint", polygon((32, 2), (68, 2), (71, 9), (29, 9))),
    ]


def clock() -> list[Part]:
    """An alarm clock with two bells on top."""
    return [
        Part("dark", bar((26, 80), (18, 95), 10)),
        Part("dark", bar((74, 80), (82, 95), 10)),
        Part("metal", turned(sector(XYR(22, 20, 17, 15), 180, 360), -40, about=(22, 20))),
        Part("metal", turned(sector(XYR(78, 20, 17, 15), 180, 360), 40, about=(78, 20))),
        Part("body", ellipse(50, 54, 40)),
        Part("pale", ellipse(50, 54, 23)),
        Part("dark", bar((50, 54), (50, 40), 6)),
        Part("dark", bar((50, 54), (60, 59), 6)),
    ]


def book() -> list[Part]:
    """A closed book: cover, spine, pages."""
    return [
        Part("shade", rectangle(12, 6, 88, 96, radius=5)),
        Part("pale", rectangle(22, 80, 88, 92)),
        Part("body", rectangle(12, 4, 88, 82, radius=4)),
        Part("shade", rectangle(12, 4, 27, 96, radius=4)),
        Part("pale", rectangle(40, 20, 76, 36, radius=2)),
    ]


def teapot() -> list[Part]:
    """Round pot with spout, handle and lid."""
    return [
        Part("body", band(XYR(20, 58, 16, 17), 9, 60, 300)),
        Part(
            "body",
            smooth(
                (66, 56),
                (78, 50),
                (84, 36),
                (98, 30),
                (97, 36),
                (92, 46),
                (86, 66),
                (66, 78),
            ),
        ),
        Part("body", ellipse(48, 62, 31, 29)),
        Part("shade", sector(XYR(48, 38, 21, 13), 180, 360)),
        Part("dark", ellipse(48, 22, 7)),
        Part("shade", rectangle(30, 88, 66, 95, radius=3)),
    ]


def fork() -> list[Part]:
    """Three wide tines on a broad handle."""
    return [
        Part("body", rectangle(17, 2, 31, 44, radius=6)),
        Part("body", rectangle(43, 2, 57, 44, radius=6)),
        Part("body", rectangle(69, 2, 83, 44, radius=6)),
        Part("body", sector(XYR(50, 34, 33, 28), 0, 180)),
        Part("body", polygon((42, 54), (58, 54), (62, 94), (57, 100), (43, 100), (38, 94))),
    ]


def chair() -> list[Part]:
    """A chair from the front: back, seat, legs."""
    return [
        Part("dark", rectangle(27, 30, 38, 60)),
        Part("dark", rectangle(62, 30, 73, 60)),
        Part("dark", polygon((20, 62), (32, 62), (29, 99), (18, 99))),
        Part("dark", mirrored(polygon((20, 62), (32, 62), (29, 99), (18, 99)))),
        Part("body", rectangle(20, 2, 80, 38, radius=8)),
        Part("body", polygon((20, 50), (80, 50), (90, 70), (10, 70))),
    ]


def _half_turn() -> list[tuple[float, float]]:
    points = sector(XYR(0, 0, 1, 1), 0, 180)
    return [(float(x), float(y)) for x, y in points]
