"""Pictures written to files atomically."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from pam_edge.core.errors import cannot_write

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all. Raises WontFitError on a full disk, else EnvironmentProblem."""
    buffer = io.BytesIO()
    picture.save(buffer, PICTURES[path.suffix.lower()])
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, e) from e
