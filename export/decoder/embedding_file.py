"""The token embedding in a file of its own, for engines whose decoder does not contain it.

`runtimes/common/embedding.py` reads rows from it on every device. Knows no graph.
"""

from __future__ import annotations

from pathlib import Path

from pam_edge.bundle.config import LanguageConfig
from pam_edge.core.errors import cannot_write
from pam_edge.export.decoder.onnx_graph import table_weight
from pam_edge.export.decoder.tensors import Tensors, write
from pam_edge.quantize.schemes import Scheme


def language2embedding(language: LanguageConfig, tensor: Tensors, folder: Path, *, scheme: Scheme) -> Path:
    """Write `embedding.bin` into `folder` as `language2onnx` would, and return it. Raises like that."""
    weight = table_weight(language, scheme)
    path = folder / weight.file
    try:
        with path.open("wb") as file:
            write(file, weight, tensor, language=language, better=lambda key: None)
    except OSError as e:
        raise cannot_write(path, e) from e
    return path
