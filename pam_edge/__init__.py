"""Perceive Anything Model (PAM) on the device: load a bundle, select a region, get its mask and text.

    import pam_edge

    pam = pam_edge.load("nano")
    r = pam("photo.jpg", point=(62, 40))
    r.mask, r.box, r.score, r.text

Importing this package loads neither torch nor an engine: a name's module is imported when the name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from pam_edge.api.aio import AsyncModel
    from pam_edge.api.model import Model
    from pam_edge.api.result import Result, Results
    from pam_edge.api.stream import Stream
    from pam_edge.api.tracking import Track
    from pam_edge.bundle.bundle import Bundle
    from pam_edge.core.errors import (
        DeviceError,
        EnvironmentProblem,
        IntegrityError,
        PamEdgeError,
        QualityError,
        RegressionError,
        UsageError,
        WontFitError,
    )
    from pam_edge.image.preprocess import Prompt, load_image, load_mask
    from pam_edge.pipeline.pam import Pam
    from pam_edge.pipeline.results import Answer, Piece, Region, Seen
    from pam_edge.render.overlay import draw
    from pam_edge.text.decoding import Sampling
    from pam_edge.text.tokenization import Question
    from pam_edge.video.stream import Caption, Words
    from pam_edge.video.tracker import Frame, Tracked, Tracker

    __version__: str

# Where each public name is defined.
_DEFINED = {
    "pam_edge.api.aio": ("AsyncModel",),
    "pam_edge.api.model": ("Model",),
    "pam_edge.api.result": ("Result", "Results"),
    "pam_edge.api.stream": ("Stream",),
    "pam_edge.api.tracking": ("Track",),
    "pam_edge.bundle.bundle": ("Bundle",),
    "pam_edge.core.errors": (
        *("PamEdgeError", "UsageError", "EnvironmentProblem", "QualityError"),
        *("DeviceError", "IntegrityError", "WontFitError", "RegressionError"),
    ),
    "pam_edge.video.stream": ("Caption", "Words"),
    "pam_edge.text.decoding": ("Sampling",),
    "pam_edge.render.overlay": ("draw",),
    "pam_edge.pipeline.pam": ("Pam",),
    "pam_edge.image.preprocess": ("Prompt", "load_image", "load_mask"),
    "pam_edge.text.tokenization": ("Question",),
    "pam_edge.pipeline.results": ("Answer", "Piece", "Region", "Seen"),
    "pam_edge.video.tracker": ("Frame", "Tracked", "Tracker"),
}
_HOME = {name: module for module, names in _DEFINED.items() for name in names}

__all__ = [
    "Answer", "AsyncModel", "Bundle", "Caption", "DeviceError", "EnvironmentProblem", "Frame",
    "IntegrityError", "Model", "Pam", "PamEdgeError", "Piece", "Prompt", "QualityError", "Question", "Region",
    "RegressionError", "Result", "Results", "Sampling", "Seen", "Stream", "Track", "Tracked", "Tracker",
    "UsageError", "WontFitError", "Words", "__version__", "draw", "load", "load_image", "load_mask",
]  # fmt: skip


def load(bundle: str | os.PathLike[str] | Bundle, *, threads: int = 0, check: bool = True) -> Model:
    """Open a bundle in its own runtime. Graphs are opened when they are first used.

    Args:
        bundle: a bundle's folder, "nano" for the packaged bundle, or an opened `Bundle`.
        threads: number of threads of the engine; 0 lets it choose.
        check: compare the sha256 of every file first.

    Returns:
        A `Model`, to be called with a picture and a prompt. It is a context manager, and safe to use from
        several threads. If the bundle was not verified on this kind of CPU, the logger "pam_edge" warns once
        per folder.

    Raises:
        UsageError: there is no bundle at that path.
        IntegrityError: the bundle is damaged.
        EnvironmentProblem: the engine is not installed.

    Example:
        >>> with pam_edge.load("nano") as pam:
        ...     print(pam("photo.jpg", point=(62, 40)).text)
    """
    from pam_edge.api.model import load as load_model

    return load_model(bundle, threads=threads, check=check)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("pam-edge")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
