"""Which release of each peer is measured. Knows names and versions, not how they are installed or run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pam_edge.core.errors import UsageError

LLAMA_CPP, GENAI, PYTORCH, OPENVINO, GGUF = "llama.cpp", "onnxruntime-genai", "pytorch", "openvino", "gguf"
OURS = "pam-edge"


@dataclass(frozen=True)
class Pin:
    """One peer: the registry it is taken from, and exactly what is asked for there."""

    name: str
    registry: Literal["pip", "npm", "none"]
    packages: tuple[str, ...]
    note: str


PINS: tuple[Pin, ...] = (
    Pin(
        LLAMA_CPP,
        "npm",
        ("@node-llama-cpp/linux-x64@3.22.1",),
        "llama.cpp v0.5.0's own libraries, one build for each kind of x86-64; it takes the best one itself",
    ),
    Pin(GGUF, "pip", ("gguf==0.19.0",), "llama.cpp's own writer of its files"),
    Pin(
        GENAI,
        "pip",
        ("onnxruntime-genai==0.18.0", "transformers==5.23.0"),
        "model builder and engine; onnxruntime itself is the one this project uses",
    ),
    Pin(OPENVINO, "pip", ("openvino==2026.4.1", "nncf==3.4.0"), "engine and its post-training quantization"),
    Pin(PYTORCH, "none", (), "the torch of the extra `export`"),
)


def pin_named(name: str) -> Pin:
    """The peer of that name. Raises UsageError listing the known ones."""
    for pin in PINS:
        if pin.name == name:
            return pin
    raise UsageError(f"unknown peer {name!r}; known: {', '.join(pin.name for pin in PINS)}")
