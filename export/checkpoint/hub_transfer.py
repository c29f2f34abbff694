"""Download of one file from the Hugging Face hub into huggingface_hub's cache.

huggingface_hub 2 resumes a broken connection, but deletes the partial file when the process ends, and
compares only sizes. Here a partial file is kept until it is complete and its hash is right, and is then moved
to where huggingface_hub looks for it (`blobs/HASH`). Knows no model.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock, build_hf_headers

from pam_edge.core.errors import IntegrityError

_SHA256, _GIT = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it. `digest` is its sha256 if it is large, else git's SHA-1, in hex."""

    path: str
    bytes: int
    digest: str

    def __post_init__(self) -> None:
        """Raises IntegrityError where the digest is none: it becomes the name of a file."""
        if not (_SHA256.fullmatch(self.digest) or _GIT.fullmatch(self.digest)):
            raise IntegrityError(f"the hub lists {self.path} with {self.digest[:80]!r} where a hash belongs")


def arrived(file: RemoteFile, storage: Path) -> int:
    """Bytes of a file that are in the repository's folder of the cache, whole or in part."""
    blob, part = _blob(storage, file), _part(storage, file)
    if blob.is_file() and blob.stat().st_size == file.bytes:
        return file.bytes
    held = part.stat().st_size if part.is_file() else 0
    return held if held <= file.bytes else 0


def transfer(repo: str, commit: str, file: RemoteFile, storage: Path) -> None:
    """Download what is missing of a file into `storage`, the repository's folder of the cache.

    Raises IntegrityError where its bytes are not those that the hub lists, and what huggingface_hub raises.
    """
    blob, part = _blob(storage, file), _part(storage, file)
    lock = storage.parent / ".locks" / storage.name / f"{file.digest}.lock"  # as huggingface_hub names it
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.is_file() and blob.stat().st_size == file.bytes:
            return
        if part.is_file() and part.stat().st_size > file.bytes:
            part.unlink()
        with part.open("ab") as f:
            http_get(
                hf_hub_url(repo, file.path, revision=commit),
                f,
                resume_size=f.tell(),
                headers={
                    **build_hf_headers(),
                    "Accept-Encoding": "identity",
                },  # a part must be of the file itself
                expected_size=file.bytes,
                displayed_filename=file.path,
            )
        if _digest(part, file) != file.digest:
            part.unlink()
            raise IntegrityError(
                f"{file.path} of {repo} arrived damaged (its hash differs) and was deleted; "
                "the same command downloads it again"
            )
        part.replace(blob)


def _blob(storage: Path, file: RemoteFile) -> Path:
    return storage / "blobs" / file.digest


def _part(storage: Path, file: RemoteFile) -> Path:
    return storage / "blobs" / f"{file.digest}.pam-edge.incomplete"


def _digest(path: Path, file: RemoteFile) -> str:
    """The hash of a file's bytes, of the kind that the hub lists it with."""
    if _SHA256.fullmatch(file.digest):
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
