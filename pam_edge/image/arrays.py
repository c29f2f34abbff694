"""Pictures and masks given as arrays: numpy, torch tensors, and anything else with `__array__`.

Converts them to one numpy array, and a picture's array to 8-bit pixels. Imports no framework: a torch tensor
is recognized by the name of its class. Knows no files and no model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pam_edge.core.errors import UsageError

Array = npt.NDArray[Any]

_CHANNELS = (1, 3, 4)
_SLACK = 1 / 255  # how far a float picture may leave 0..1 before it is refused: less than one 8-bit level
_WANTED = (
    "give [height, width], or [height, width, channels] with 1, 3 (RGB) or 4 (RGBA) channels, "
    "as uint8, or as floats from 0 to 1"
)


class Values(NamedTuple):
    """An array, and whether its owner's convention puts channels first (torch) or last (all others)."""

    array: Array
    channels_first: bool


def values_of(source: object) -> Values | None:
    """The values of anything that is an array: numpy, torch, `__array__`, `__array_interface__`, DLPack, or a
    memoryview of more than one axis. None for everything else.

    Raises UsageError where an array cannot be read from here (on an accelerator, sparse).
    """
    if isinstance(source, np.ndarray):
        return Values(source, False)
    if _is_torch(source):
        return Values(_from_torch(source), True)
    readable = any(hasattr(source, name) for name in ("__array__", "__array_interface__"))
    if isinstance(source, type) or (isinstance(source, memoryview) and source.ndim < 2):
        return None
    if not (readable or hasattr(source, "__dlpack__") or isinstance(source, memoryview)):
        return None
    try:
        return Values(
            np.asarray(source) if readable or isinstance(source, memoryview) else _dlpack(source), False
        )
    except Exception as e:
        kind = type(source).__name__
        raise UsageError(
            f"the {kind} given cannot be read as an array ({e}); copy it to the CPU first"
        ) from e


def picture_pixels(values: Values) -> npt.NDArray[np.uint8]:
    """A picture's array as uint8 [h, w], [h, w, 3] or [h, w, 4].

    With `channels_first`, [c, h, w] is taken where its first axis is 1, 3 or 4, else [h, w, c]; all other
    arrays are [h, w] or [h, w, c]. Raises UsageError for other shapes and types, for floats that are no
    numbers or outside 0..1.
    """
    array = values.array
    if values.channels_first and array.ndim == 3 and array.shape[0] in _CHANNELS:
        array = array.transpose(1, 2, 0)
    what = f"an array of shape {tuple(values.array.shape)} and type {array.dtype} is no picture"
    if array.ndim == 4:
        raise UsageError(f"{what} but a batch of them: give one at a time, batch[0]")
    if array.ndim == 3 and array.shape[0] in _CHANNELS and array.shape[2] not in _CHANNELS:
        raise UsageError(f"{what}: it looks like [channels, height, width]; give x.transpose(1, 2, 0)")
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        raise UsageError(f"{what}: {_WANTED}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype.kind == "f":
        return _from_floats(array)
    if array.dtype != np.uint8:
        how = (
            "x.astype(np.uint8) * 255"
            if array.dtype == np.bool_
            else "x.astype(np.uint8) where it is 0 to 255"
        )
        if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
            how += "; of a wider range choose what to show, (x.clip(low, high) - low) * 255 / (high - low)"
        raise UsageError(f"{what}: {_WANTED}. Convert it: {how}")
    return np.ascontiguousarray(array)


def plain_mask(values: Values) -> Array | None:
    """The array of a mask as [h, w] of any type, without an axis of one channel; None if it has colours."""
    array = values.array
    if array.ndim == 3 and array.shape[0] == 1:
        array = array.reshape(array.shape[1:])
    elif array.ndim == 3 and array.shape[2] == 1:
        array = array.reshape(array.shape[:2])
    if array.ndim == 3 and array.shape[2] in (3, 4):
        return None
    return array


def mask_of(array: Array) -> npt.NDArray[np.bool_]:
    """Which pixels of [h, w] numbers are inside: those above half of the largest value.

    So bool, 0 and 1, 0 and 255, 16-bit and float masks mean the same. Raises UsageError for another shape or
    type, for values below 0 (logits, which have no such half) and for floats that are no numbers.
    """
    if array.ndim != 2 or array.dtype.kind not in "buif":
        raise UsageError(
            f"a mask is [h, w] of bool, integers or floats; got shape {array.shape}, type {array.dtype}"
        )
    if array.dtype == np.bool_:
        return array.astype(np.bool_)
    if not array.size:
        return np.zeros(array.shape, np.bool_)
    highest, lowest = float(array.max()), float(array.min())
    if not np.isfinite([highest, lowest]).all():
        raise UsageError("the mask holds values that are not finite numbers (NaN or infinity)")
    if lowest < 0:
        raise UsageError(f"the mask holds values below 0 ({lowest:g}): give a bool one, such as logits > 0")
    inside: npt.NDArray[np.bool_] = array > highest / 2
    return inside


def _from_floats(array: Array) -> npt.NDArray[np.uint8]:
    lowest, highest = float(array.min()), float(array.max())
    if not np.isfinite([lowest, highest]).all():
        raise UsageError("the picture's array holds values that are not finite numbers (NaN or infinity)")
    if lowest < -_SLACK or highest > 1 + _SLACK:
        raise UsageError(
            f"a picture of floats goes from 0 to 1, this one from {lowest:g} to {highest:g}: "
            "divide by the largest possible value, or give uint8"
        )
    return np.round(np.clip(array.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def _is_torch(source: object) -> bool:
    kinds = type(source).__mro__
    return any(kind.__module__.partition(".")[0] == "torch" and kind.__name__ == "Tensor" for kind in kinds)


def _from_torch(tensor: Any) -> Array:
    try:
        here = tensor.detach().cpu()
        try:
            array: Array = here.numpy()
        except TypeError:  # bfloat16, which numpy lacks
            array = here.float().numpy()
    except Exception as e:
        raise UsageError(f"the tensor given cannot be read ({e}); give a dense one") from e
    return array


def _dlpack(source: Any) -> Array:
    array: Array = np.from_dlpack(source)
    return array
