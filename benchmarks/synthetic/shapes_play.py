"""Shapes of objects to eat, ride and play with. Sheet of 100 x 100 units, nothing thinner than about 8."""

from __future__ import annotations

import math

from pam_edge.benchmarks.synthetic.geometry import (
    XYR,
    Part,
    bar,
    ellipse,
    mirrored,
    polygon,
    rectangle,
    sector,
    smooth,
    turned,
)


def car() -> list[Part]:
    """A car from the side."""
    return [
        Part("body", smooth((20, 50), (28, 30), (38, 20), (54, 18), (68, 21), (78, 34), (86, 50))),
        Part("body", rectangle(0, 44, 100, 76, radius=12)),
        Part("glass", polygon((29, 44), (36, 28), (50, 27), (50, 44))),
        Part("glass", polygon((57, 44), (57, 27), (66, 29), (75, 44))),
        Part("dark", ellipse(25, 76, 15)),
        Part("dark", ellipse(75, 76, 15)),
        Part("metal", ellipse(25, 76, 6.5)),
        Part("metal", ellipse(75, 76, 6.5)),
    ]


def sailboat() -> list[Part]:
    """Two sails over a hull."""
    return [
        Part("dark", rectangle(46, 0, 54, 72)),
        Part("body", polygon((54, 4), (54, 70), (97, 66))),
        Part("body", polygon((46, 14), (46, 70), (8, 66))),
        Part("shade", polygon((2, 71), (98, 71), (80, 98), (22, 98))),
    ]


def airplane() -> list[Part]:
    """An airplane from above, nose up."""
    wing = polygon((50, 34), (98, 60), (98, 74), (50, 60))
    tail = polygon((50, 78), (72, 90), (72, 99), (50, 94))
    return [
        Part("body", wing),
        Part("body", mirrored(wing)),
        Part("body", tail),
        Part("body", mirrored(tail)),
        Part("body", ellipse(50, 50, 12, 50)),
        Part("glass", sector(XYR(50, 22, 8, 12), 180, 360)),
    ]


def apple() -> list[Part]:
    """Round fruit with stalk and leaf."""
    return [
        Part("dark", bar((50, 28), (54, 8), 9)),
        Part("leaf", smooth((56, 18), (66, 6), (86, 4), (80, 18), (68, 23))),
        Part(
            "body",
            smooth(
                (50, 28),
                (62, 23),
                (80, 27),
                (91, 46),
                (86, 72),
                (70, 94),
                (58, 97),
                (50, 94),
                (42, 97),
                (30, 94),
                (14, 72),
                (9, 46),
                (20, 27),
                (38, 23),
            ),
        ),
        Part("tint", turned(ellipse(26, 46, 6, 11), 20, about=(26, 46))),
    ]


def banana() -> list[Part]:
    """A bent fruit with dark ends."""
    return [
        Part(
            "body",
            smooth(
                (8, 20),
                (20, 14),
                (28, 34),
                (44, 50),
                (66, 56),
                (88, 48),
                (96, 58),
                (82, 76),
                (58, 84),
                (32, 76),
                (14, 54),
            ),
        ),
        Part("dark", polygon((6, 8), (18, 6), (22, 20), (8, 24))),
        Part("dark", ellipse(93, 54, 6)),
    ]


def mushroom() -> list[Part]:
    """Wide cap on a pale stem."""
    return [
        Part("pale", smooth((38, 52), (62, 52), (63, 74), (70, 94), (50, 98), (30, 94), (37, 74))),
        Part(
            "body",
            smooth(
                (2, 52),
                (8, 28),
                (28, 8),
                (50, 3),
                (72, 8),
                (92, 28),
                (98, 52),
                (84, 60),
                (50, 57),
                (16, 60),
            ),
        ),
        Part("shade", smooth((20, 54), (50, 51), (80, 54), (50, 62))),
    ]


def flower() -> list[Part]:
    """Six petals around a pale heart, stem and leaf."""
    petals = [
        Part("body", ellipse(50 + 20 * math.cos(a), 34 + 20 * math.sin(a), 14.5))
        for a in (math.radians(30 + 60 * i) for i in range(6))
    ]
    return [
        Part("leaf", rectangle(45.5, 56, 54.5, 100)),
        Part("leaf", smooth((50, 94), (58, 78), (82, 70), (80, 84), (64, 96))),
        *petals,
        Part("pale", ellipse(50, 34, 11)),
    ]


def kite() -> list[Part]:
    """A diamond with a cross and a tail of bows."""
    return [
        Part("dark", bar((50, 66), (46, 92), 9)),
        Part("shade", polygon((49, 81), (28, 70), (26, 92))),
        Part("shade", polygon((47, 81), (70, 71), (70, 92))),
        Part("body", polygon((50, 0), (90, 31), (50, 76), (10, 31))),
        Part("dark", rectangle(47, 3, 53, 71)),
        Part("dark", rectangle(15, 28, 85, 34)),
    ]


def bell() -> list[Part]:
    """A bell with knob and clapper."""
    return [
        Part("dark", ellipse(50, 88, 11)),
        Part("dark", ellipse(50, 9, 9)),
        Part(
            "body",
            smooth(
                (50, 12),
                (66, 18),
                (74, 34),
                (77, 58),
                (92, 78),
                (90, 86),
                (50, 88),
                (10, 86),
                (8, 78),
                (23, 58),
                (26, 34),
                (34, 18),
            ),
        ),
        Part("shade", rectangle(8, 75, 92, 87, radius=5)),
    ]


def gift() -> list[Part]:
    """A box with ribbon and bow."""
    loop = smooth((50, 26), (38, 6), (20, 2), (14, 14), (26, 26))
    return [
        Part("pale", loop),
        Part("pale", mirrored(loop)),
        Part("body", rectangle(10, 40, 90, 99)),
        Part("body", rectangle(3, 24, 97, 44)),
        Part("shade", rectangle(10, 44, 90, 49)),
        Part("pale", rectangle(42, 24, 58, 99)),
        Part("pale", ellipse(50, 24, 8)),
    ]


def ice_cream() -> list[Part]:
    """Two scoops in a cone."""
    return [
        Part("tan", polygon((26, 58), (74, 58), (50, 100))),
        Part("body", ellipse(50, 24, 22)),
        Part(
            "body",
            smooth(
                (20, 48),
                (26, 34),
                (50, 30),
                (74, 34),
                (80, 48),
                (77, 62),
                (68, 60),
                (60, 68),
                (50, 62),
                (40, 67),
                (32, 60),
                (23, 62),
            ),
        ),
        Part("dark", ellipse(50, 4, 7)),
    ]


def duck() -> list[Part]:
    """A rubber duck facing right."""
    return [
        Part("beak", smooth((78, 28), (98, 30), (99, 37), (92, 42), (78, 42))),
        Part(
            "body",
            smooth((2, 44), (16, 54), (44, 54), (74, 52), (90, 66), (84, 88), (62, 97), (32, 96), (10, 82)),
        ),
        Part("body", ellipse(64, 32, 23)),
        Part("dark", ellipse(70, 26, 5)),
        Part("shade", smooth((26, 66), (44, 62), (60, 68), (50, 82), (34, 82))),
    ]
