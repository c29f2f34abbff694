"""A fingerprint of a set of weight files that does not read gigabytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pam_edge.core.errors import EnvironmentProblem

_EDGE = 1 << 20


def fingerprint(path: Path) -> str:
    """Hex digest of a file or of the files in a folder: names, sizes, times of change, first and last MiB.

    Raises EnvironmentProblem where one cannot be read.
    """
    digest = hashlib.sha256()
    try:
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        for file in files:
            stat = file.stat()
            digest.update(
                f"{file.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode(errors="surrogateescape")
            )
            with file.open("rb") as f:
                digest.update(f.read(_EDGE))
                f.seek(max(0, stat.st_size - _EDGE))
                digest.update(f.read(_EDGE))
    except OSError as e:
        raise EnvironmentProblem(f"cannot read {e.filename or path}: {e.strerror}") from e
    return digest.hexdigest()
