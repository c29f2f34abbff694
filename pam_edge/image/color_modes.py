"""Conversion of a decoded picture of any mode to 8-bit RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pam_edge.core.errors import UsageError


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as 8-bit RGB, transparency flattened onto white. Raises UsageError for numbers
    without a known range.
    """
    if _is_numeric(image):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise UsageError(
                f"pictures of mode {image.mode} have no known range: convert to 8 or 16 bits a channel"
            )
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if _has_alpha(image):
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def mask_levels(image: Image.Image) -> Image.Image:
    """A picture of a mask with one channel: as it is where it holds 16 or 32 bits, else its brightness. Where
    it is transparent in parts, what is opaque and not black becomes white on black.
    """
    if _is_numeric(image):
        return image
    if not _has_alpha(image):
        return to_rgb(image).convert("L")
    layer = np.asarray(image.convert("RGBA"))
    alpha, colours = layer[:, :, 3], layer[:, :, :3]
    if alpha.min() < alpha.max():
        return Image.fromarray(((alpha > 127) & colours.any(axis=2)).astype(np.uint8) * 255)
    evenly = Image.fromarray(colours * np.uint8(alpha.max() > 0))  # evenly transparent: as on black
    return evenly.convert("L")


def _is_numeric(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
