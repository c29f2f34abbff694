"""An opened bundle: a folder whose `bundle.json` and files are checked before anything uses them.

Paths that leave the folder, links, wrong sizes and wrong hashes raise IntegrityError. Knows no engine and no
model.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pam_edge.bundle import builtin
from pam_edge.bundle.manifest import MANIFEST, FileRef, Graph, Manifest, read_manifest
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError


class Bundle:
    """An opened bundle: its manifest, and paths that are known to lie inside its folder."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | Path, *, check: bool = True) -> Bundle:
        """Read and check a bundle: a folder, or `nano`, which comes with the package.

        `check` compares every file's sha256 (about 1 GB/s); sizes, paths and the schema are always checked.
        Raises UsageError where there is no such folder, IntegrityError for anything wrong inside it.
        """
        folder = builtin.bundle_folder(folder)
        try:
            manifest = read_manifest(folder / MANIFEST)
            bundle = cls(folder, manifest)
            files = manifest.files()
            for ref in files.values():
                bundle._check_place(ref)
            if check:
                with ThreadPoolExecutor() as pool:
                    for _ in pool.map(bundle._check_hash, files.values()):
                        pass
        except OSError as e:
            raise EnvironmentProblem(f"cannot read {e.filename or folder}: {e.strerror}") from e
        return bundle

    def path(self, ref: FileRef) -> Path:
        """Where a file of the bundle lies."""
        return self.folder / ref.path

    def graph(self, name: str) -> Graph:
        """The graph of that name. Raises UsageError listing what the bundle holds."""
        for graph in self.manifest.graphs:
            if graph.name == name:
                return graph
        held = ", ".join(graph.name for graph in self.manifest.graphs)
        raise UsageError(f"this bundle has no graph {name!r}; it holds {held}")

    @property
    def total_bytes(self) -> int:
        """Size of everything the manifest names, in bytes."""
        return sum(ref.bytes for ref in self.manifest.files().values())

    def _check_place(self, ref: FileRef) -> None:
        path, linked = self.path(ref), through_a_link(self.folder, ref.path)
        if linked or not path.is_file():
            what = "a link" if linked else "missing"
            raise IntegrityError(f"{path} is {what}; copy or export the bundle again")
        size = path.stat().st_size
        if size != ref.bytes:
            raise IntegrityError(
                f"{path} has {size} bytes where {MANIFEST} says {ref.bytes}; copy or export the bundle again"
            )

    def _check_hash(self, ref: FileRef) -> None:
        if sha256_of(self.path(ref)) != ref.sha256:
            raise IntegrityError(
                f"{self.path(ref)} is damaged (sha256 differs); copy or export the bundle again"
            )


def file_ref(path: Path, *, within: Path | None = None) -> FileRef:
    """Describe a finished file: its name, or its way from the folder `within`, its size and sha256."""
    place = path.name if within is None else path.relative_to(within).as_posix()
    return FileRef(path=place, bytes=path.stat().st_size, sha256=sha256_of(path))


def through_a_link(folder: Path, place: str) -> bool:
    """Whether a file below `folder`, or a folder on the way to it, is a link and so leads elsewhere."""
    way = folder
    for part in place.split("/"):
        way = way / part
        if way.is_symlink():
            return True
    return False


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
