"""The other files that an ONNX file reads, found without the onnx package.

A hostile graph may name any file of the machine as its weights, and not every engine version refuses that, so
this is checked before an engine opens it. It walks the messages of onnx.proto that can contain a tensor.
"""

from __future__ import annotations

from pathlib import Path

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Graph
from pam_edge.core.errors import IntegrityError
from pam_edge.runtimes.common.protobuf import fields

_LOCATION = b"location"  # the key of an external tensor's file

# Message -> field number -> the message in that field (onnx.proto3, IR 10).
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def check_external_files(bundle: Bundle, graph: Graph) -> None:
    """Raise IntegrityError where a graph's ONNX file reads files that bundle.json does not give it."""
    path, *others = (bundle.path(ref) for ref in graph.files)
    try:
        if _LOCATION not in path.read_bytes():
            return  # a string lies in one piece in protobuf, so no tensor can name a file
    except OSError as e:
        raise _unreadable(path, e) from e
    strange = external_files(path) - {other.name for other in others}
    if strange:
        raise IntegrityError(
            f"{path} reads {min(strange)!r}, which bundle.json does not name for it; "
            "get the bundle from someone you trust, or export again"
        )


def external_files(path: Path) -> set[str]:
    """Locations that the tensors of an ONNX file name. Raises IntegrityError where it is no ONNX file."""
    found: set[str] = set()
    try:
        raw = memoryview(path.read_bytes())
        waiting = [("model", raw)]
        while waiting:
            kind, message = waiting.pop()
            if kind == "entry":
                entry = {number: bytes(value) for number, value in fields(message)}
                if entry.get(1) == _LOCATION:
                    found.add(entry.get(2, b"").decode(errors="replace"))
                continue
            inside = _FIELDS[kind]
            waiting += [(inside[number], value) for number, value in fields(message) if number in inside]
    except (OSError, ValueError) as e:
        raise _unreadable(path, e) from e
    return found


def _unreadable(path: Path, e: Exception) -> IntegrityError:
    return IntegrityError(f"{path} is not a readable ONNX file ({e}); copy or export the bundle again")
