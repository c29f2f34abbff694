"""What objects lie on: muted textures, plus the noise of a camera. Seeded, no objects here.

Backgrounds stay pale or greyish so that the palette's colours stand out from them.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Ground = Literal["gradient", "paper", "wood", "tiles", "grass", "sand", "cloth"]
GROUNDS: tuple[Ground, ...] = get_args(Ground)

_TONES: dict[Ground, tuple[tuple[int, int, int], ...]] = {
    "gradient": ((196, 206, 214), (214, 204, 196), (188, 196, 186), (208, 200, 214)),
    "paper": ((222, 218, 208), (212, 214, 216), (216, 208, 190)),
    "wood": ((206, 178, 142), (188, 160, 128), (176, 158, 140)),
    "tiles": ((196, 204, 208), (206, 198, 188), (180, 190, 192)),
    "grass": ((150, 170, 120), (166, 178, 132), (140, 160, 122)),
    "sand": ((214, 200, 168), (200, 190, 170)),
    "cloth": ((178, 188, 200), (200, 188, 190), (186, 190, 176)),
}
_Field = NDArray[np.float32]


class Exposure(NamedTuple):
    """`gain` per channel, float32 [3]; `noise` standard deviation in steps of 8-bit RGB."""

    gain: _Field
    noise: float


def background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A textured ground, RGB [height, width]."""
    ground = GROUNDS[int(rng.integers(len(GROUNDS)))]
    tones = _TONES[ground]
    tone = np.array(tones[int(rng.integers(len(tones)))], dtype=np.float32) + rng.uniform(-10, 10, 3)
    unit = min(width, height) / 256
    light = _clouds(rng, width, height, cells=2) * 14
    match ground:
        case "gradient":
            light += np.linspace(-22, 22, height, dtype=np.float32)[:, None] * rng.choice((-1, 1))
        case "paper":
            light += _grain(rng, width, height) * 5
        case "wood":
            light += _wood(rng, width, height, unit)
        case "tiles":
            light += _tiles(rng, width, height, unit)
        case "grass":
            light += _clouds(rng, width, height, cells=40) * 14 + _grain(rng, width, height) * 9
        case "sand":
            light += _clouds(rng, width, height, cells=10) * 7 + _grain(rng, width, height) * 9
        case "cloth":
            light += _weave(width, height, unit) * 5 + _grain(rng, width, height) * 3
    pixels = light[:, :, None] + tone.astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def exposure(rng: np.random.Generator) -> Exposure:
    """How a camera is set: brightness, a slight colour cast, and how noisy its sensor is."""
    gain = rng.uniform(0.92, 1.07) * rng.uniform(0.97, 1.03, 3)
    return Exposure(gain.astype(np.float32), float(rng.uniform(0, 5)))


def exposed(rng: np.random.Generator, picture: Image.Image, setting: Exposure) -> NDArray[np.uint8]:
    """The picture as that camera gives it, with noise of its own. uint8 [H, W, 3]."""
    pixels = np.asarray(picture, dtype=np.float32) * setting.gain
    pixels += _grain(rng, picture.width, picture.height)[:, :, None] * np.float32(setting.noise)
    return np.clip(pixels, 0, 255).astype(np.uint8)


@functools.cache
def _noise_bank() -> _Field:
    """Standard normal noise, [1024, 1024]; crops of it are far cheaper than fresh noise."""
    return np.random.default_rng(20240229).standard_normal((1024, 1024), dtype=np.float32)


def _grain(rng: np.random.Generator, width: int, height: int) -> _Field:
    bank = _noise_bank()
    y, x = int(rng.integers(1024 - height)), int(rng.integers(1024 - width))
    return bank[y : y + height, x : x + width]


def _clouds(rng: np.random.Generator, width: int, height: int, *, cells: int) -> _Field:
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _wood(rng: np.random.Generator, width: int, height: int, unit: float) -> _Field:
    """Planks across the picture, grain along them, dark joints."""
    plank = float(rng.uniform(36, 64)) * unit
    rows = np.arange(height, dtype=np.float32)
    number = np.floor(rows / plank).astype(np.int64)
    shade = rng.uniform(-14, 14, int(number[-1]) + 1)[number]
    joint = np.where(rows % plank < 1.5 * unit, -38.0, 0.0)
    coarse = Image.fromarray(rng.uniform(-1, 1, (height // 3, 5)).astype(np.float32))
    grain = np.array(coarse.resize((width, height), Image.Resampling.BILINEAR))
    return np.asarray(grain * 9 + (shade + joint)[:, None], dtype=np.float32)


def _tiles(rng: np.random.Generator, width: int, height: int, unit: float) -> _Field:
    side = float(rng.uniform(40, 72)) * unit
    x0, y0 = rng.uniform(0, side, 2)
    x, y = np.arange(width) + x0, np.arange(height) + y0
    shade = rng.uniform(-7, 7, (int(y[-1] / side) + 1, int(x[-1] / side) + 1))
    field = shade[np.ix_((y / side).astype(np.int64), (x / side).astype(np.int64))]
    field[y % side < 2 * unit, :] = 22
    field[:, x % side < 2 * unit] = 22
    return field.astype(np.float32)


def _weave(width: int, height: int, unit: float) -> _Field:
    step = 2.2 / unit
    across = np.sin(np.arange(width, dtype=np.float32) * np.float32(step))
    return np.asarray(
        across[None, :] * np.sin(np.arange(height, dtype=np.float32) * np.float32(step))[:, None]
    )
