"""Perceive anything, on the device: `load` a bundle, look at a picture, point, read.

Importing this loads neither torch nor an engine; what a name needs is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pam_edge.bundle import Bundle
    from pam_edge.pam import Pam

    __version__: str

__all__ = ["Bundle", "Pam", "__version__", "load"]


def load(bundle: str | Path | Bundle, *, threads: int = 0, check: bool = True) -> Pam:
    """Open a bundle in its own runtime. `threads` 0 lets the engine choose; `check` compares every file's
    sha256.

    Raises UsageError where there is no bundle, IntegrityError where it is damaged, EnvironmentProblem where
    its engine is missing here.
    """
    from pam_edge.pam import load as load_pam

    return load_pam(bundle, threads=threads, check=check)


def __getattr__(name: str) -> Any:
    match name:
        case "Pam":
            from pam_edge.pam import Pam

            return Pam
        case "Bundle":
            from pam_edge.bundle import Bundle

            return Bundle
        case "__version__":
            from importlib.metadata import version

            return version("pam-edge")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
