"""Which combinations of kind, colour and pattern are kept from training.

The rule: CRC-32 of "kind|colour|pattern" in UTF-8, modulo 100, below 15 means held out. It depends on
nothing else, so it can never drift. About 15 % are held out; every kind, colour and pattern is still seen
in training, in other company.
"""

from __future__ import annotations

import functools
import zlib
from typing import Literal, NamedTuple

from pam_edge.benchmarks.synthetic.palette import COLOURS, PATTERNS
from pam_edge.benchmarks.synthetic.texts import KINDS

Split = Literal["train", "heldout"]
HELD_OUT_PERCENT = 15


class Combo(NamedTuple):
    """What an object is and how it is painted, by name."""

    kind: str
    colour: str
    pattern: str


def is_held_out(combo: Combo) -> bool:
    """True where training never sees this combination."""
    return zlib.crc32("|".join(combo).encode()) % 100 < HELD_OUT_PERCENT


@functools.cache
def combos(split: Split) -> tuple[Combo, ...]:
    """Every combination of that split, in a fixed order."""
    every = (Combo(k.name, c.name, p) for k in KINDS for c in COLOURS for p in PATTERNS)
    return tuple(combo for combo in every if is_held_out(combo) == (split == "heldout"))
