"""The language model's float weights, read from a finished bundle: the reverse of `decoder.py`.

The decoder's graph names every weight by its canonical key and gives its offset in `decoder.bin`, which is
memory-mapped, so only what is read is in memory. Knows the float layout only: matrices as [in, out], but the
embedding and an untied head as [vocabulary, hidden].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import IntegrityError
from pam_edge.export.checkpoint.keys import EMBED_TOKENS, LM_HEAD
from pam_edge.runtimes.onnxruntime.external_files import check_external_files

_HEAD = "head"
_DTYPES: Mapping[int, type[np.floating]] = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.FLOAT16: np.float16,
}


@dataclass(frozen=True)
class _Stored:
    """Where a weight lies and how."""

    path: Path
    dtype: type[np.floating]
    shape: tuple[int, ...]
    offset: int
    transposed: bool


class StoredRows:
    """A weight by its rows: `weight[3:7]` reads four of them; the file is let go of at once."""

    def __init__(self, key: str, stored: _Stored) -> None:
        self.shape = stored.shape[::-1] if stored.transposed else stored.shape
        self._key, self._stored = key, stored

    def __getitem__(self, rows: slice | npt.NDArray[np.int_], /) -> npt.NDArray[np.float32]:
        """These rows, float32, as a copy. Raises IntegrityError."""
        stored = self._stored
        try:
            values = np.memmap(stored.path, stored.dtype, "r", stored.offset, stored.shape)
        except (OSError, ValueError, OverflowError) as e:
            raise IntegrityError(
                f"cannot read {self._key} in {stored.path}: {e}; export the bundle again"
            ) from e
        return np.array((values.T if stored.transposed else values)[rows], np.float32, order="C")


class DecoderWeights:
    """Weights of a float bundle by canonical key, as `language2onnx` wants them."""

    def __init__(self, bundle: Bundle) -> None:
        """Read where they lie. Raises IntegrityError where the decoder is not a float one of ours."""
        graph, embedding = bundle.graph("decoder"), bundle.manifest.embedding
        check_external_files(bundle, graph)
        path = bundle.path(graph.files[0])
        if embedding.dtype not in ("float32", "float16"):
            raise IntegrityError(f"the embedding of {bundle.folder} is {embedding.dtype}, not a float one")
        self._file = path
        self._stored = {
            EMBED_TOKENS: _Stored(
                bundle.path(embedding.file), np.dtype(embedding.dtype).type, embedding.shape, 0, False
            )
        }
        try:
            model = onnx.load(path, load_external_data=False)
            for weight in model.graph.initializer:
                entry = {item.key: item.value for item in weight.external_data}
                if entry["location"] == embedding.file.path:
                    continue  # the tied head
                head = weight.name == _HEAD
                self._stored[LM_HEAD if head else weight.name] = _Stored(
                    path.with_name(entry["location"]),
                    _DTYPES[weight.data_type],
                    tuple(weight.dims),
                    int(entry.get("offset", 0)),
                    len(weight.dims) == 2 and not head,
                )
        except Exception as e:  # protobuf's own errors, or a file that holds what ours never do
            raise IntegrityError(f"{path} is not a float decoder of ours ({e!r}); export it again") from e

    def __call__(self, key: str) -> StoredRows:
        """The weight, float32, laid out as in Qwen2's files. Raises IntegrityError where there is none."""
        stored = self._stored.get(key)
        if stored is None:
            raise IntegrityError(f"{self._file} has no weight {key!r}; export the bundle again")
        return StoredRows(key, stored)
