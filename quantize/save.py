"""An ONNX model onto disk: its weights inside the file, or beside it where engines had better map them."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from pam_edge.core.errors import cannot_write

ONE_FILE = 64 << 20  # bytes of weights that still travel inside the .onnx; engines map what lies beside it


def weight_bytes(model: ir.Model) -> int:
    """Bytes of a model's weights."""
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


def save(model: ir.Model, path: Path, *, beside: Path | None) -> tuple[Path, ...]:
    """Write a model, its weights into the file `beside` (None: inside); the files written, the model first.

    Raises WontFitError or EnvironmentProblem where they cannot be written.
    """
    try:
        ir.save(model, path, external_data=None if beside is None else beside.name)
    except OSError as e:
        raise cannot_write(path, e) from e
    return (path,) if beside is None else (path, beside)


def place_beside(path: Path, size: int) -> Path | None:
    """Where weights of `size` bytes lie: None (inside) for up to `ONE_FILE`."""
    return None if size <= ONE_FILE else path.with_suffix(".bin")
