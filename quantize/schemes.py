"""Schemes: how the numbers of a bundle are stored, as ordered rules; the first that matches a tensor applies.

A scheme is read while graphs are written. It knows neither torch nor a device; a target says which schemes it
takes and how close their numbers must come.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from pam_edge.core.errors import UsageError

# q8, q4: weights alone, symmetric integers of 8 or 4 bits with one scale per block of the input axis
# (blockwise.py). w8a8: weights and activations in 8 bits, their ranges known from calibration.
Storage = Literal["float32", "float16", "q8", "q4", "w8a8"]
FLOATS: tuple[Storage, ...] = ("float32", "float16")
STATIC: tuple[Storage, ...] = (*FLOATS, "w8a8")  # what graphs with integer layers of known range take
# Bytes a value takes, a block's scale (float32 per 128) included.
STORED: dict[Storage, float] = {
    "float32": 4,
    "float16": 2,
    "q8": 1 + 4 / 128,
    "q4": 1 / 2 + 4 / 128,
    "w8a8": 1,
}


@dataclass(frozen=True)
class Rule:
    """Tensors of at least `dimensions` axes and `elements` values are stored as `storage`.

    `graph` and `tensor` are patterns as of `fnmatch`. A tensor goes by its canonical key in the decoder
    (`language.layers.3.mlp.down_proj.weight`), by the name of its initializer in other graphs.
    """

    storage: Storage
    graph: str = "*"
    tensor: str = "*"
    dimensions: int = 0
    elements: int = 0

    def matches(self, graph: str, tensor: str, shape: Sequence[int]) -> bool:
        """Whether a tensor of that graph, name and shape falls under this rule."""
        return (
            fnmatchcase(graph, self.graph)
            and fnmatchcase(tensor, self.tensor)
            and len(shape) >= self.dimensions
            and math.prod(shape) >= self.elements
        )


@dataclass(frozen=True)
class Scheme:
    """Ordered rules; a tensor that none matches stays float32."""

    name: str
    note: str
    rules: tuple[Rule, ...]

    def storage(self, graph: str, tensor: str, shape: Sequence[int]) -> Storage:
        """How a weight of that graph, name and shape is stored."""
        return next((r.storage for r in self.rules if r.matches(graph, tensor, shape)), "float32")

    def stored(
        self, graph: str, tensor: str, shape: Sequence[int], *, possible: Collection[Storage]
    ) -> Storage:
        """The same, for whoever can write only some kinds. Raises UsageError where it is another one."""
        found = self.storage(graph, tensor, shape)
        if found not in possible:
            raise UsageError(
                f"scheme {self.name} stores {tensor} of {graph} as {found}, which is not possible there; "
                f"possible: {', '.join(possible)}"
            )
        return found

    def check(self, runtime: str, possible: Collection[Storage]) -> None:
        """Raise UsageError where a rule stores anything as what an engine's files cannot hold."""
        for rule in self.rules:
            if rule.storage not in possible:
                raise UsageError(
                    f"scheme {self.name} stores weights as {rule.storage}, which bundles for {runtime} "
                    f"cannot; possible: {', '.join(possible)}"
                )

    @property
    def calibrated(self) -> bool:
        """Whether it needs to see data: some rule fixes the ranges of activations."""
        return any(rule.storage == "w8a8" for rule in self.rules)


FP32 = Scheme("fp32", "every weight as it was trained", ())
# Vectors (norms, biases) are a thousandth of the bytes and the most sensitive: no scheme touches them.
_VISION = Rule("w8a8", dimensions=2, elements=1024)
# Calibration is on pictures: it sees nothing of what frames leave for later ones.
_MEMORY = Rule("float16", graph="memory_*", dimensions=2, elements=1024)
# Measured on nano: 8 bits make a noise of 0.18 of its mask tokens on a picture unlike those it was calibrated
# on (the encoder 0.02, the perceiver 0.01), and there is little to save: it is small.
_MASKS = Rule("float16", graph="mask_decoder", dimensions=2, elements=1024)
_KERNELS = Rule("float16", dimensions=4, elements=1024)  # convolutions and positions
# Every later layer reads what the first one loses. With it in 8 bits nano's logits have a noise of 0.044,
# without 0.096; of 28 layers that is a fiftieth of the bytes more.
_FIRST_LAYER = Rule("q8", graph="decoder", tensor="language.layers.0.*", dimensions=2, elements=1024)
_IMAGES = (_MEMORY, _MASKS, _KERNELS, _VISION)
SCHEMES: tuple[Scheme, ...] = (
    FP32,
    Scheme(
        "fp16", "matrices stored in 16 bits, computed in 32", (Rule("float16", dimensions=2, elements=1024),)
    ),
    Scheme(
        "int8",
        "8 bits: vision weights and activations, language weights",
        (Rule("q8", graph="decoder", dimensions=2, elements=1024), *_IMAGES),
    ),
    Scheme(
        "int4",
        "language weights in 4 bits, its vocabulary and vision in 8",
        (
            Rule("q8", graph="decoder", tensor="language.embed_tokens.*", dimensions=2, elements=1024),
            Rule("q8", graph="decoder", tensor="language.lm_head.*", dimensions=2, elements=1024),
            _FIRST_LAYER,
            Rule("q4", graph="decoder", dimensions=2, elements=1024),
            *_IMAGES,
        ),
    ),
)


def scheme_named(name: str) -> Scheme:
    """The scheme of that name. Raises UsageError listing the known ones."""
    for scheme in SCHEMES:
        if scheme.name == name:
            return scheme
    known = ", ".join(scheme.name for scheme in SCHEMES)
    raise UsageError(f"unknown scheme {name!r}; known: {known}")
