"""`golden.npz`: a picture, prompts, and the float reference's outputs for them, subsampled with a stride.

Entries: `picture` [S, S, 3] uint8; `CASE/point_coords` [1, N, 2], `CASE/point_labels` [1, N] and, if the case
has one, `CASE/mask_prompt`; outputs as `GRAPH/OUTPUT` or, for the graphs after a prompt, `GRAPH/CASE/OUTPUT`;
`decoder/embeds` [T, H], `decoder/tokens` [n], and for the prompt and every token `decoder/logits`,
`decoder/top_ids`, `decoder/top` [n + 1, ...]. `meta` is JSON in a byte array.

For a quantized bundle, the inputs of each graph in the first case are kept whole, in float16: each graph is
then judged on the reference's own inputs. Knows no torch, no engine and no bundle.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from pam_edge.core.errors import IntegrityError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
MAX_BYTES = 256 << 20  # unpacked
HUGE = 1e300  # stands for "no number" in an error: JSON has no infinity
META = "meta"
SAMPLES = 1024  # values kept of a tensor, at most, where it is not kept whole

_Error = Annotated[float, Meta(gt=0, lt=1)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Float numbers: largest errors allowed, as parts of each tensor's largest value (at least 1)."""

    tensors: _Error
    masks: _Error
    logits: _Error

    @property
    def tie(self) -> float:
        """The error of logits below which two tokens count as a tie: a recorded answer is cut there."""
        return self.logits


class Losses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Quantized numbers: the most that may be lost against the float reference; see error_metrics.py."""

    tensors: _Error  # noise of a graph's outputs
    masks: _Error  # 1 - IoU
    tokens: _Error  # 1 - cosine of a region token
    logits: _Error  # noise of logits, where weights are trained
    weights: _Error  # noise of a row of the decoder's weights
    caption: _Error  # part of a greedy answer that has to be edited
    chain: Annotated[float, Meta(ge=1, le=10)]  # times as much from picture to region tokens: losses add up

    @property
    def tie(self) -> float:
        """0: a recorded answer is kept whole, with its margins."""
        return 0.0


class RecordedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One whole greedy answer to a click on the picture, for float numbers up to the first near tie.

    `margins`, one a token: how far it was ahead of the second-best, in standard deviations of the logits.
    """

    task: str
    lang: Literal["en", "zh"]
    point: tuple[float, float]
    token_ids: tuple[int, ...]
    margins: tuple[float, ...] = ()


class GoldenMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `meta` entry. Numbers are held either to `limits` or to `losses`."""

    schema: Literal[1]
    limits: Limits | None
    cases: Annotated[tuple[str, ...], Meta(min_length=1)]  # names of the prompts
    strides: dict[str, Annotated[int, Meta(ge=1)]]  # entry -> stride over the flat tensor; absent: kept whole
    answer: RecordedAnswer | None = msgspec.field(name="told")
    losses: Losses | None = None

    @property
    def bounds(self) -> Limits | Losses:
        """What the numbers are held to."""
        found = self.limits or self.losses
        if found is None or (self.limits and self.losses):
            raise IntegrityError("the golden file names no limits, or two kinds; export the bundle again")
        return found


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
            self.meta: GoldenMeta = msgspec.json.decode(self._arrays[META].tobytes(), type=GoldenMeta)
            _ = self.meta.bounds
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

    def kept(self, key: str) -> Floats:
        """The kept values of a graph's output, flat. Raises IntegrityError."""
        halved = key in self._arrays and self._arrays[key].dtype == np.float16
        return self.array(key, np.float16 if halved else np.float32, None).astype(np.float32)

    def whole(self, key: str, axes: Sequence[int | str]) -> Floats | None:
        """A graph's output in its shape, or None where only samples of it, or nothing, were kept."""
        shape = [axis for axis in axes if isinstance(axis, int)]
        if key not in self._arrays or self.stride(key) > 1:
            return None
        values = self.kept(key)
        if len(shape) < len(axes) or values.size != math.prod(shape):
            raise IntegrityError(f"{self._path}: {key!r} has {values.size} values; export the bundle again")
        return values.reshape(shape)

    def error(self, key: str, output: Array) -> float:
        """How far a whole output is from its (thinned) entry; see `relative_error`."""
        return relative_error(thinned(output, self.stride(key)), self.kept(key))


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


def golden_content(
    recorded: Mapping[str, Array],
    *,
    picture: Array,
    prompts: Mapping[str, Mapping[str, Array]],
    bounds: Limits | Losses,
    answer: RecordedAnswer | None,
) -> bytes:
    """golden.npz from whole tensors by their entries' names, and prompts by their cases' names.

    Raises IntegrityError where the reference of a quantized bundle does not fit float16.
    """
    arrays: dict[str, Array] = {"picture": picture}
    strides: dict[str, int] = {}
    for case, prompt in prompts.items():
        arrays |= {f"{case}/{name}": value for name, value in prompt.items()}
    quantized = isinstance(bounds, Losses)
    first = next(iter(prompts))
    for name, value in recorded.items():
        graph, *_, output = name.split("/")
        fed = graph == "image_encoder" or f"/{first}/" in name or output == "masks"
        if name == "decoder/logits":
            strides[name] = _stride(value.shape[1:])
            arrays[name] = value[:, :: strides[name]]
        elif graph == "decoder":
            arrays[name] = value
        elif quantized and fed:
            arrays[name] = _halved(value, name)
        else:
            strides[name] = _stride(value.shape)
            arrays[name] = thinned(value, strides[name])
    meta = GoldenMeta(
        schema=1,
        limits=bounds if isinstance(bounds, Limits) else None,
        losses=bounds if isinstance(bounds, Losses) else None,
        cases=tuple(prompts),
        strides=strides,
        answer=answer,
    )
    return golden_bytes(arrays, meta)


def _halved(values: Array, name: str) -> Array:
    if not np.abs(values).max() <= np.finfo(np.float16).max:
        raise IntegrityError(f"{name} has values that float16 cannot hold: this model cannot be judged")
    return values.astype(np.float16).ravel()


def _stride(shape: Sequence[int]) -> int:
    """The smallest stride that keeps at most SAMPLES values and, above 1, falls in step with no axis."""
    stride = -(-math.prod(shape) // SAMPLES)
    while stride > 1 and any(math.gcd(stride, axis) > 1 for axis in shape):
        stride += 1
    return stride


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
