"""The user's cache folder: files that can be made again, kept between runs.

The folder is PAM_EDGE_CACHE, else `pam-edge` in XDG_CACHE_HOME or ~/.cache (Linux), ~/Library/Caches (macOS),
LOCALAPPDATA (Windows). No function raises because of the file system: without a usable folder (no home,
read-only, full disk, owned by another user) nothing is found and nothing is kept.

Files are replaced atomically (temporary name, fsync, rename). Links below the folder are not followed, and
files that another user owns or anyone may write are not read, because an engine may open them as a model.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ENV = "PAM_EDGE_CACHE"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}\Z")
_NEW, _ABANDONED_S = ".new-", 86400


def cache_folder() -> Path | None:
    """The folder, absolute, whether or not it exists; None where this user has no home."""
    if chosen := os.environ.get(ENV):
        return Path(chosen).absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
    elif sys.platform == "darwin":
        base = Path("~/Library/Caches")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not base.is_absolute():  # the XDG specification: a relative path is ignored
            base = Path("~/.cache")
    try:
        base = base.expanduser()
    except RuntimeError:  # no home
        return None
    return base / "pam-edge" if base.is_absolute() else None


def usable() -> bool:
    """Whether something can be kept now; makes the folder where it is missing."""
    root = _made(())
    return root is not None and os.access(root, os.W_OK | os.X_OK)


def find(place: str) -> Path | None:
    """The file or folder kept at `place` ("part/part/name"), or None: absent, or unsafe to open.

    Raises ValueError where `place` is not of plain names.
    """
    parts, root = _parts(place), cache_folder()
    if root is None or not _safe(root, is_root=True):
        return None
    path = root
    for i, part in enumerate(parts):
        path = path / part
        if not _safe(path, or_file=i == len(parts) - 1):
            return None
    return path


def read(place: str, *, limit: int) -> bytes | None:
    """The content of the file kept at `place`, or None: absent, unreadable, unsafe, or over `limit` bytes."""
    path = find(place)
    if path is None:
        return None
    try:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as f:
            if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
                return None
            content = f.read(limit + 1)
    except OSError:
        return None
    return content if len(content) <= limit else None


def write(place: str, content: bytes) -> bool:
    """Keep `content` at `place`, replacing what was there at once. False where it cannot be kept."""
    with writing(place) as path:
        if path is None:
            return False
        try:
            path.write_bytes(content)
        except OSError:
            return False
    return find(place) is not None


@contextmanager
def writing(place: str) -> Iterator[Path | None]:
    """A new path for one file or one folder to be made at; what is there at the end is moved to `place`.

    None where nothing can be kept. A file replaces an earlier one; a folder does not: the one that was there
    first stays. After an exception, or where nothing was written, nothing is kept.
    """
    *folders, name = _parts(place)
    parent = _made(tuple(folders))
    scratch = _scratch(parent) if parent is not None else None
    if parent is None or scratch is None:
        yield None
        return
    try:
        made = scratch / name
        yield made
        with suppress(OSError):
            _sync(made)
            made.replace(parent / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove(place: str) -> None:
    """Forget the file or folder kept at `place`; a link itself is removed, never what it leads to."""
    *folders, name = _parts(place)
    parent = find("/".join(folders)) if folders else cache_folder()
    if parent is None:
        return
    path = parent / name
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _parts(place: str) -> list[str]:
    parts = place.split("/")
    if not all(_PART.match(part) for part in parts):
        raise ValueError(f"not a place in the cache: {place!r}")
    return parts


def _safe(path: Path, *, or_file: bool = False, is_root: bool = False) -> bool:
    """Whether this is a folder (or file) of our own, closed to others, and no link.

    The root may be a link: that is the user's choice.
    """
    try:
        info = path.stat() if is_root else path.lstat()
    except (OSError, ValueError):
        return False
    kind = stat.S_ISDIR(info.st_mode) or (or_file and stat.S_ISREG(info.st_mode))
    user = getattr(os, "geteuid", None)
    if user is None:  # Windows: owners and modes say nothing there, the user's profile is closed to others
        return kind
    return kind and info.st_uid == user() and not info.st_mode & stat.S_IWOTH


def _made(folders: tuple[str, ...]) -> Path | None:
    """The folder below the root, made where it is missing, or None."""
    root = cache_folder()
    if root is None:
        return None
    try:
        if not root.is_dir():
            root.mkdir(parents=True, mode=0o700, exist_ok=True)
        if not _safe(root, is_root=True):
            return None
        path = root
        for part in folders:
            path = path / part
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
            if not _safe(path):
                return None
    except OSError:
        return None
    return path


def _scratch(parent: Path) -> Path | None:
    """A folder of our own to write in, beside the place; what killed processes left there a day ago goes."""
    try:
        for left in parent.glob(f"{_NEW}*"):
            if time.time() - left.lstat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
    except OSError:
        return None


def _sync(path: Path) -> None:
    """Have every byte on the disk before the name appears. Raises OSError where nothing was written."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for file in files:
        with file.open("r+b") as f:
            os.fsync(f.fileno())
