"""Fakes that can be followed: a frame is a white square on black, and the fake model sees exactly that.

Nothing is learned here: the fake memory says where the square was, the fake mask decoder returns the square
that is in the frame, if it is near where memory or the prompt says it should be.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from fakes import HIDDEN, C, E, FakeDecoder, FakeSession, Knows, Log, fake_bundle, spelled
from PIL import Image

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import NANO
from pam_edge.bundle.manifest import Graph, TensorSpec
from pam_edge.pipeline.pam import Pam
from pam_edge.runtimes.common.open_graphs import Engine

M = NANO.vision.mem_dim
F = NANO.frame_tokens
NEAR = 10  # pixels from one frame to the next
WIDE = 8  # pixels of a square; a frame's pixel is one of the fake's low-resolution mask


def spec(name: str, *axes: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", axes=axes)


def scene(*squares: tuple[int, int]) -> Image.Image:
    """A black picture of 64 x 64 pixels with white squares, 8 wide, around these middles."""
    picture = np.zeros((4 * E, 4 * E, 3), np.uint8)
    for x, y in squares:
        picture[y - WIDE // 2 : y + WIDE // 2, x - WIDE // 2 : x + WIDE // 2] = 255
    return Image.fromarray(picture)


class SquareSession(FakeSession):
    """The graphs of a model that sees white squares."""

    def _image_encoder(self, image: np.ndarray) -> dict[str, np.ndarray]:
        out = super()._image_encoder(image)
        out["high_res_0"][0, 0] = image[0, 0, 2::4, 2::4]  # the decoder sees the picture itself
        return out

    def _memory_encoder(self, **feeds: np.ndarray) -> dict[str, np.ndarray]:
        memory = np.zeros((1, M, E, E), np.float32)
        place = middle(feeds["masks"][0, 0] > 0)
        memory[0, :3, 0, 0] = (*(place or (0, 0)), place is not None)
        return {"memory": memory}

    def _memory_attention(self, **feeds: np.ndarray) -> dict[str, np.ndarray]:
        """Carries on where the object was last seen."""
        valid = feeds["memory_valid"][0] > 0
        told = feeds["memory"][0][valid][:, :3, 0, 0]
        ages = feeds["memory_age"][0][valid]
        seen = [(age, place[:2]) for age, place in zip(ages, told, strict=True) if place[2]]
        latest = min((s for s in seen if s[0]), key=lambda s: s[0], default=seen[-1] if seen else None)
        conditioned = np.zeros((1, C, E, E), np.float32)
        if latest is not None:
            conditioned[0, :3, 0, 0] = (*latest[1], 1)
        return {"conditioned": conditioned}

    def _mask_decoder(self, **feeds: np.ndarray) -> dict[str, np.ndarray]:
        labels = feeds["point_labels"][0]
        real = feeds["point_coords"][0][(labels > 0)]
        picture = feeds["high_res_0"][0, 0] > 0
        near: tuple[float, float] | None = None
        if len(real):
            near = tuple(real.mean(axis=0) / 4)
        elif not feeds["no_memory"][0] and feeds["image_embed"][0, 2, 0, 0]:
            near = tuple(feeds["image_embed"][0, :2, 0, 0])
        mask = square_near(picture, near)
        logits = np.where(mask, 10, -10).astype(np.float32) if mask.any() else np.full(mask.shape, -1024.0)
        shown = float(mask.sum())
        return {
            "masks": logits[None, None].astype(np.float32),
            "iou": np.array([[0.9]], np.float32),
            "object_score": np.array([[5.0 if mask.any() else -5.0]], np.float32),
            "object_pointer": np.zeros((1, C), np.float32),
            "region_embed": np.full((1, C, E, E), shown + float(picture.mean()), np.float32),
            "mask_tokens": np.zeros((1, 2, C), np.float32),
        }

    def _perceiver_frame(self, region_embed: np.ndarray, mask_tokens: np.ndarray) -> dict[str, np.ndarray]:
        tokens = np.zeros((1, F, HIDDEN), np.float32)
        tokens[..., 0], tokens[..., 1] = -1, region_embed.mean()
        return {"frame_tokens": tokens}


def middle(mask: np.ndarray) -> tuple[float, float] | None:
    if not mask.any():
        return None
    y, x = np.nonzero(mask)
    return float(x.mean()), float(y.mean())


def square_near(picture: np.ndarray, near: tuple[float, float] | None) -> np.ndarray:
    """The white pixels of one square, the one nearest to a place and not far from it."""
    mine = np.zeros_like(picture)
    y, x = np.nonzero(picture)
    if near is None or not len(x):
        return mine
    far = np.hypot(x - near[0], y - near[1])
    first = far.argmin()
    if far[first] <= NEAR:
        chosen = (np.abs(x - x[first]) <= WIDE + 1) & (np.abs(y - y[first]) <= WIDE + 1)
        mine[y[chosen], x[chosen]] = True
    return mine


def video_bundle(folder: Path, *, slots: tuple[int | str, int | str], max_length: int = 4096) -> Bundle:
    """`fake_bundle` with the graphs of videos."""
    bundle = fake_bundle(folder, max_length=max_length)
    shell = bundle.graph("perceiver").files
    image = spec("image_embed", 1, C, E, E)
    memories, pointers = slots
    remembered = (
        image,
        spec("memory", 1, memories, M, E, E),
        spec("memory_age", 1, memories),
        spec("memory_valid", 1, memories),
        spec("pointers", 1, pointers, C),
        spec("pointer_time", 1, pointers),
        spec("pointer_valid", 1, pointers),
    )
    frame = (image, spec("masks", 1, 1, 4 * E, 4 * E), spec("object_score", 1, 1), spec("prompted", 1))
    region = (spec("region_embed", 1, C, E, E), spec("mask_tokens", 1, 2, C))
    more = (
        Graph(name="memory_encoder", files=shell, inputs=frame, outputs=(spec("memory", 1, M, E, E),)),
        Graph(
            name="memory_attention",
            files=shell,
            inputs=remembered,
            outputs=(spec("conditioned", 1, C, E, E),),
        ),
        Graph(
            name="perceiver_frame", files=shell, inputs=region, outputs=(spec("frame_tokens", 1, F, HIDDEN),)
        ),
    )
    manifest = msgspec.structs.replace(bundle.manifest, graphs=(*bundle.manifest.graphs, *more))
    return Bundle(folder, manifest)


def video_pam(
    folder: Path,
    knows: Knows = lambda region, after: spelled("ok"),
    *,
    slots: tuple[int | str, int | str] = ("memories", "pointers"),
    max_length: int = 4096,
) -> tuple[Pam, Log]:
    """A Pam that follows white squares, and the log of what it asked of its engine."""
    log = Log()

    def open_decoder() -> FakeDecoder:
        log.opened += 1
        return FakeDecoder(knows, log, max_length=max_length)

    engine = Engine(session=lambda graph: SquareSession(graph, log), decoder=open_decoder)
    return Pam(video_bundle(folder, slots=slots, max_length=max_length), engine), log
