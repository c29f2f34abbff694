"""`golden.npz`: a picture, prompts, and what PyTorch made of them at export, tensors thinned by a stride.

Entries: `picture` [S, S, 3] uint8; `CASE/point_coords` [1, N, 2], `CASE/point_labels` [1, N] and, where the
case has one, `CASE/mask_prompt`; outputs as `GRAPH/OUTPUT` or, for the graphs after a prompt,
`GRAPH/CASE/OUTPUT`; `decoder/embeds` [T, H], `decoder/tokens` [n], and for the prompt and every token
`decoder/logits`, `decoder/top_ids`, `decoder/top` [n + 1, ...]. `meta` is JSON in a byte array. Knows no
torch, no engine and no bundle.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from pam_edge.errors import IntegrityError

Array = npt.NDArray[Any]
MAX_BYTES = 256 << 20  # unpacked
HUGE = 1e300  # stands for "no number" in an error: JSON has no infinity
META = "meta"

_Error = Annotated[float, Meta(gt=0, lt=1)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Largest errors allowed, as parts of each tensor's largest value (taken as at least 1)."""

    tensors: _Error
    masks: _Error
    logits: _Error


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One whole greedy answer to a click on the picture, up to the first token that was nearly a tie."""

    task: str
    lang: Literal["en", "zh"]
    point: tuple[float, float]
    token_ids: tuple[int, ...]


class GoldenMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `meta` entry."""

    schema: Literal[1]
    limits: Limits
    cases: tuple[str, ...]  # names of the prompts
    strides: dict[str, Annotated[int, Meta(ge=1)]]  # entry -> stride over the flat tensor; absent: kept whole
    told: Told | None


class Golden:
    """An opened golden.npz."""

    def __init__(self, path: Path) -> None:
        """Raises IntegrityError where the file is not one of ours."""
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                    raise IntegrityError(f"{path} unpacks to over {MAX_BYTES >> 20} MiB; refusing to read it")
            with np.load(path, allow_pickle=False) as npz:
                self._arrays: dict[str, Array] = {name: npz[name] for name in npz.files}
            self.meta = msgspec.json.decode(self._arrays[META].tobytes(), type=GoldenMeta)
        except IntegrityError:
            raise
        except Exception as e:  # numpy parses a header as Python: what it raises depends on Python's version
            raise IntegrityError(f"{path} is damaged or cannot be read ({e}); export the bundle again") from e

    def array(self, key: str, dtype: type[np.generic], *axes: int | None) -> Array:
        """An entry of that type and shape; a None axis may have any extent above 0. Raises IntegrityError."""
        found = self._arrays.get(key)
        if found is None:
            raise IntegrityError(f"{self._path} has no entry {key!r}; export the bundle again")
        wanted = tuple(n if a is None else a for n, a in zip(found.shape, axes, strict=False))
        fits = found.ndim == len(axes) and found.shape == wanted
        if found.dtype != dtype or not fits or not found.size:
            raise IntegrityError(
                f"{self._path}: {key!r} is {found.dtype} {found.shape}; export the bundle again"
            )
        return found

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def stride(self, key: str) -> int:
        """By what an entry was thinned: 1 where it was kept whole."""
        return self.meta.strides.get(key, 1)

    def error(self, key: str, output: Array) -> float:
        """How far a whole output is from its (thinned) entry; see `relative_error`."""
        return relative_error(thinned(output, self.stride(key)), self.array(key, np.float32, None))


def thinned(tensor: Array, stride: int) -> Array:
    """Every `stride`-th value of a tensor laid out row-major."""
    return np.ascontiguousarray(tensor).ravel()[::stride]


def relative_error(found: Array, wanted: Array) -> float:
    """max |found - wanted| / max(1, max |wanted|); HUGE where shapes differ or a value is not finite."""
    if found.shape != wanted.shape or not found.size:
        return HUGE
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    worst = float(np.abs(a - b).max() / max(1.0, float(np.abs(b).max())))
    return worst if np.isfinite(worst) else HUGE


def golden_bytes(arrays: Mapping[str, Array], meta: GoldenMeta) -> bytes:
    """The file's content."""
    return npz_bytes({META: np.frombuffer(msgspec.json.encode(meta), np.uint8), **arrays}, compress=True)


def npz_bytes(arrays: Mapping[str, Array], *, compress: bool) -> bytes:
    """Named arrays as numpy's .npz; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, always
            entry.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            with archive.open(entry, "w", force_zip64=True) as f:
                np.save(f, np.ascontiguousarray(arrays[name]), allow_pickle=False)
    return buffer.getvalue()
