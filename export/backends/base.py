"""What an engine's writer is: the module that knows how one engine wants PAM's graphs on disk.

A writer is a module with the members of `Writer`; `writer_for` picks it by the target's runtime. It is given
one graph at a time as a `Job`, and leaves a bundle's files. Knows no engine and no file format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import Variant
from pam_edge.bundle.manifest import Check, Graph, TensorSpec, Verification
from pam_edge.core.errors import EnvironmentProblem
from pam_edge.export.backends.quiet import quiet
from pam_edge.export.checkpoint.checkpoint import Checkpoint
from pam_edge.export.driver.parts import Part, Recorded, Tell
from pam_edge.export.driver.workspace import Workspace
from pam_edge.export.graphs.image_graphs import GraphName
from pam_edge.quantize.calibration import Samples
from pam_edge.quantize.schemes import Scheme
from pam_edge.runtimes.common.registry import engine_named
from pam_edge.targets import Tolerance

# Positions of a clip of 16 frames (1,043 + 15 * 275 of PAM), its question and a long answer: what a cache is
# made for where its length is fixed.
CLIP = 6144
Border = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]  # inputs and outputs


@dataclass(frozen=True)
class Job:
    """One graph to write: of which weights, stored how, into which workspace."""

    part: Part
    scheme: Scheme
    samples: Samples | None  # to calibrate on; None where the scheme needs none
    work: Workspace
    tell: Tell
    recorded: Recorded  # what PyTorch gave of this graph and those before it

    @property
    def name(self) -> GraphName:
        """The graph's name."""
        return self.part.name

    @property
    def variant(self) -> Variant:
        """The numbers of the model."""
        return self.part.checkpoint.variant


@dataclass(frozen=True)
class Appetite:
    """What writing holds in memory, as a multiple of the float32 weights of the part being written, and what
    it leaves on disk beside what the scheme says. And what the decoder takes where it runs.
    """

    vision: float = 1.0
    language: float = 0.0  # 0: weights pass one at a time
    integers: float | None = None  # the same of a scheme with the language model in integers; None: no other
    vocabularies: int = 1  # copies of a tied token embedding
    float_files: bool = False  # any scheme but fp32 is made of float files of the image graphs
    cache: Literal["float32", "float16"] = "float32"  # what the decoder keeps in any scheme but fp32
    cached: int | None = None  # positions it keeps room for at once; None: as many as come


class Writer(Protocol):
    """The members of a writer's module."""

    TOOLS: tuple[str, ...]  # installed packages that the bytes depend on; bundle.json names their versions
    APPETITE: Appetite
    CALIBRATES: bool  # False: what a scheme stores in w8a8 needs no pictures to be seen
    LONGEST: int | None  # positions that its decoder's cache is made for; None: all that the model reads

    @property
    def specs(self) -> Callable[[Variant, GraphName, Scheme], Border]:
        """Inputs and outputs of a graph as this engine has them; axes it wants static are fixed extents."""
        ...

    @property
    def write(self) -> Callable[[Job], tuple[str, ...]]:
        """Write a graph within `job.work.step()`; the names of its files, what the engine opens first.

        Steps of its own (float files to calibrate on) it keeps as scratch in the same workspace. The
        decoder's files include `embedding.bin` (`embedding_file.py`). Raises UsageError for a scheme
        that it cannot write.
        """
        ...

    @property
    def described(self) -> Callable[[Graph, Variant, Scheme], Graph]:
        """A graph as bundle.json shall have it, with the engine's own fields filled in."""
        ...

    @property
    def checks(self) -> Callable[[Path, Checkpoint, Scheme, Tolerance], tuple[Check, ...]]:
        """Checks of the files in a folder that only an export can make, with the weights at hand."""
        ...

    @property
    def rehearse(self) -> Callable[[Bundle], Verification | None]:
        """Where the engine is not here: the files as far as another engine can run them, or None."""
        ...


def writer_for(runtime: str) -> Writer:
    """The engine's writer. Raises EnvironmentProblem for an unknown engine, or for a missing package."""
    record = engine_named(runtime)
    try:
        with quiet(*record.packages):  # coremltools warns on every system but macOS
            return cast("Writer", import_module(record.writer))
    except ModuleNotFoundError as e:
        extras = ",".join(filter(None, ("export", record.extra)))
        raise EnvironmentProblem(f"this target needs {e.name}: pip install 'pam-edge[{extras}]'") from e
