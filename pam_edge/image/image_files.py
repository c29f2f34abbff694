"""The bytes of a picture file from a path, from memory or from an open file, up to a maximum size."""

from __future__ import annotations

import io
import os
import re
import stat
from pathlib import Path
from typing import Any

from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError

MAX_FILE_BYTES = 256 << 20
ACCEPTED = (
    "give a path, the bytes of a picture file, an open file, a PIL image, "
    "or an array (numpy, torch and their like)"
)


def file_bytes(source: Any, *, limit: int) -> tuple[bytes, str]:
    """The bytes of a picture file and what to call it in messages.

    An open file is read from its beginning and left where it stood, if it can seek; else read to its end.
    Raises UsageError where there is no file or `source` is nothing that holds one, EnvironmentProblem where
    it may not be read, IntegrityError where it has more than `limit` bytes.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _within(bytes(source), "the bytes given", limit), "the bytes given"
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        if isinstance(name, str) and re.match(r"(?i)[a-z][a-z0-9+.-]+://", name):
            raise UsageError(f"{name} is an address, no file: download it first")
        path = Path(os.fsdecode(name))
        return _read(path, limit), str(path)
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "")) or "the file given"
        return _within(_read_open(source, name, limit), name, limit), name
    hint = "; cv2.imread gives None where it cannot read a file" if source is None else ""
    raise UsageError(f"{type(source).__name__} is no picture: {ACCEPTED}{hint}")


def _read_open(file: Any, name: str, limit: int) -> bytes:
    try:
        stood = file.tell() if _seekable(file) else None
        if stood is not None:
            file.seek(0)
        try:
            raw = file.read(limit + 1)
        finally:
            if stood is not None:
                file.seek(stood)
    except (OSError, ValueError, io.UnsupportedOperation) as e:  # ValueError: it is closed
        raise UsageError(f"cannot read {name}: {e}") from e
    if not isinstance(raw, bytes | bytearray | memoryview):
        raise UsageError(
            f"{name} gives {type(raw).__name__}, not bytes: open it in binary mode, open(path, 'rb')"
        )
    return bytes(raw)


def _seekable(file: Any) -> bool:
    return all(hasattr(file, name) for name in ("seek", "tell")) and getattr(file, "seekable", lambda: True)()


def _within(raw: bytes, name: str, limit: int) -> bytes:
    if len(raw) > limit:
        raise IntegrityError(f"{name} is over {limit >> 20} MiB; refusing to read it")
    return raw


def _read(path: Path, limit: int) -> bytes:
    try:
        status = path.stat()
        if status.st_size > limit:
            raise IntegrityError(f"{path} is over {limit >> 20} MiB; refusing to read it")
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as e:
        raise UsageError(f"no picture at {path}: give the path of an image file") from e
    except PermissionError as e:
        raise EnvironmentProblem(f"may not read {path}: check its permissions") from e
    except (OSError, ValueError) as e:  # ValueError: a NUL in the path
        raise UsageError(f"cannot read {str(path)!r}: {e}") from e
    raise UsageError(f"{path} is a device or a pipe: give the path of an image file")
