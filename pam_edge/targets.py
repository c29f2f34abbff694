"""The devices that pam-edge exports for, one row each: runtime, schemes, memory, and error limits.

Targets are read at export time only: a bundle holds what it needs to run. Knows no model and no engine.
"""

from __future__ import annotations

from dataclasses import dataclass

from pam_edge.bundle.golden import Limits, Losses
from pam_edge.core.errors import UsageError

Tolerance = Limits | Losses  # of float numbers, of quantized ones


@dataclass(frozen=True)
class Fit:
    """A scheme that a device takes, and how close its numbers must come."""

    scheme: str
    tolerance: Tolerance


@dataclass(frozen=True)
class Memory:
    """What a device leaves to one process, in bytes, and whose figure that is."""

    bytes: int
    source: str


@dataclass(frozen=True)
class Target:
    """One device. `memory` is None where it differs from machine to machine."""

    name: str
    title: str
    runtime: str  # an engine of the registry
    variant: str  # the largest model size that suits it
    fits: tuple[Fit, ...]  # the first is the default
    note: str
    memory: Memory | None = None
    aliases: tuple[str, ...] = ()  # other names for it

    @property
    def schemes(self) -> tuple[str, ...]:
        """Names of the schemes it takes, the default first."""
        return tuple(fit.scheme for fit in self.fits)

    def tolerance(self, scheme: str) -> Tolerance:
        """How close the numbers of a scheme must come. Raises UsageError where the target cannot take it."""
        for fit in self.fits:
            if fit.scheme == scheme:
                return fit.tolerance
        possible = ", ".join(self.schemes)
        raise UsageError(
            f"target {self.name} ({self.runtime}) has no scheme {scheme!r}; possible: {possible}"
        )


# Integers lose what they lose, whichever engine computes with them. Limits come from nano.
_INT8 = Fit(
    "int8",
    Losses(tensors=0.08, masks=0.05, tokens=0.02, logits=0.04, weights=0.03, caption=0.9, chain=2),
)
_INT4 = Fit(
    "int4",
    Losses(tensors=0.08, masks=0.05, tokens=0.02, logits=0.1, weights=0.2, caption=0.9, chain=2),
)

# Float numbers on GPUs: float16 products everywhere but in the fp32 scheme.
_TENSORRT = (
    _INT4,
    _INT8,
    # Tensors: the memory encoder reads where a mask is above zero. On nano, noise of a ten-thousandth in the
    # mask alone moves its memory by 0.028; in float16 it is off by 0.026, all others by less than 0.002.
    Fit("fp16", Limits(tensors=5e-2, masks=3e-2, logits=2e-2)),
    Fit("fp32", Limits(tensors=1e-3, masks=1e-3, logits=1e-3)),
)
_BUILT = "engines are compiled on the device: `pam-edge build BUNDLE`"


def _shared(gigabytes: float, left: float) -> Memory:
    """Of a Jetson, whose GPU and CPU share their memory."""
    return Memory(
        round(left * 1e9),
        f"reckoned: {gigabytes:g} GB shared by CPU and GPU (NVIDIA's data sheet), less 2 GB for the system",
    )


_FP32 = Fit("fp32", Limits(tensors=1e-4, masks=1e-4, logits=1e-4))

# Android sets native memory no limit; it kills what is largest when memory runs out.
_ANDROID = Memory(
    4_000_000_000,
    "what a phone of 8 GB (Galaxy S23) had available, reported at github.com/pytorch/executorch/issues/3599",
)
_EXECUTORCH = (_INT4, _INT8, _FP32)

# Everything is computed in float16; no integers but weights, so that features lose less than where
# activations are integers too. Not held against any device yet.
_COREML_FP16 = Fit("fp16", Limits(tensors=2e-2, masks=2e-2, logits=2e-2))

TARGETS: tuple[Target, ...] = (
    Target(
        name="cpu",
        title="any 64-bit CPU",
        runtime="onnxruntime",
        variant="pam-3b",
        fits=(
            _FP32,
            Fit("fp16", Limits(tensors=1e-2, masks=2e-2, logits=2e-2)),
            _INT8,
            _INT4,
        ),
        note="needs nothing but `pip install pam-edge`",
    ),
    Target(
        name="jetson-orin-nano",
        title="Jetson Orin Nano 8 GB",
        runtime="tensorrt",
        variant="pam-3b",
        fits=_TENSORRT,
        memory=_shared(8, 6),
        aliases=("jetson",),
        note=_BUILT,
    ),
    Target(
        name="jetson-orin-nx",
        title="Jetson Orin NX 16 GB",
        runtime="tensorrt",
        variant="pam-3b",
        fits=_TENSORRT,
        memory=_shared(16, 14),
        note=_BUILT,
    ),
    Target(
        name="jetson-agx-orin",
        title="Jetson AGX Orin 64 GB",
        runtime="tensorrt",
        variant="pam-3b",
        fits=_TENSORRT,
        memory=_shared(64, 62),
        note=_BUILT,
    ),
    Target(
        name="jetson-thor",
        title="Jetson AGX Thor 128 GB",
        runtime="tensorrt",
        variant="pam-3b",
        fits=_TENSORRT,
        memory=_shared(128, 126),
        note=_BUILT,
    ),
    Target(
        name="rtx",
        title="a PC's NVIDIA RTX card",
        runtime="tensorrt_rtx",
        variant="pam-3b",
        fits=_TENSORRT,
        note="engines are compiled ahead on any machine: `pam-edge build BUNDLE --capability SM89`",
    ),
    Target(
        name="android",
        title="Android phone with 8 GB, on the CPU (XNNPACK)",
        runtime="executorch",
        variant="pam-1.5b",
        fits=_EXECUTORCH,
        note="writing and verifying it needs `pip install 'pam-edge[export,android]'`",
        memory=_ANDROID,
    ),
    Target(
        name="android-vulkan",
        title="Android phone with 8 GB, on the GPU (Vulkan)",
        runtime="executorch_vulkan",
        variant="pam-1.5b",
        fits=_EXECUTORCH,
        note="lowered here, never run yet: an app with ExecuTorch's Vulkan backend shows what it computes",
        memory=_ANDROID,
    ),
    Target(
        name="iphone",
        title="iPhone with 8 GB, iOS 18",
        runtime="coreml",
        variant="pam-1.5b",
        fits=(_INT4, _INT8, _COREML_FP16),
        note="for an app; made anywhere, run on Apple's devices alone",
        memory=Memory(
            3_000_000_000,
            "what iPadOS 26.4 leaves an app of 8 GB, reported at developer.apple.com/forums/thread/826325",
        ),
    ),
    Target(
        name="mac",
        title="Mac with Apple silicon, macOS 15",
        runtime="coreml",
        variant="pam-3b",
        fits=(_COREML_FP16, _INT8, _INT4),
        note="made anywhere, run on a Mac with `pip install 'pam-edge[apple]'`",
    ),
)


def target_named(name: str) -> Target:
    """The target of that name. Raises UsageError listing the known ones."""
    for target in TARGETS:
        if name in (target.name, *target.aliases):
            return target
    known = ", ".join(name for target in TARGETS for name in (target.name, *target.aliases))
    raise UsageError(f"unknown target {name!r}; known: {known} (`pam-edge targets` says more)")


def scheme_for(target: Target, scheme: str | None) -> str:
    """The scheme asked for, or the target's default. Raises UsageError where the target cannot take it."""
    if scheme is None:
        return target.schemes[0]
    target.tolerance(scheme)
    return scheme
