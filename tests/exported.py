"""nano exported for the CPU: random weights, also as that was before its last graph, and its own weights."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from pam_edge.bundle.manifest import MANIFEST


@dataclass(frozen=True)
class Exported:
    """Where they lie."""

    bundle: Path
    half: Path  # all but the decoder is done

    def copy(self, place: Path) -> Path:
        """The bundle, a test's own to spoil."""
        shutil.copytree(self.bundle, place)
        return place


def digests(folder: Path) -> dict[str, str]:
    """What tells the files of a folder from others."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def export_trained(folder: Path) -> Path:
    """nano's own weights at fp16 in `folder`, unless that was done."""
    if not (folder / MANIFEST).exists():
        from pam_edge.export.driver.build import build, plan

        build(plan("nano", target="cpu", scheme="fp16"), folder)
    return folder


def export_nano(root: Path) -> Exported:
    """Export below `root`, unless that was done."""
    found = Exported(root / "bundle", root / "half")
    if (found.bundle / MANIFEST).exists():
        return found
    from pam_edge.export.driver.build import build, plan

    def report(name: str, part: float | None) -> None:
        if name == "decoder" and part == 0:
            shutil.copytree(found.bundle, found.half)

    build(plan("random:nano", target="cpu"), found.bundle, report=report)
    return found
