"""Checks of a CoreML package before CoreML opens it; needs no coremltools.

A hostile package may contain unlisted files, name a program elsewhere, or read any file of the machine as its
weights. This checks its manifest, and its program along the messages of Model.proto and MIL.proto that can
contain a file name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pam_edge.bundle.bundle import Bundle, through_a_link
from pam_edge.bundle.manifest import Graph
from pam_edge.core.errors import IntegrityError
from pam_edge.runtimes.common.protobuf import fields

_PROGRAM, _WEIGHTS = "com.apple.CoreML/model.mlmodel", "com.apple.CoreML/weights"
_HELD = {"Manifest.json", f"Data/{_PROGRAM}", f"Data/{_WEIGHTS}/weight.bin"}
_READS = b"@model_path/weights/weight.bin"
_DESCRIPTION, _ML_PROGRAM = 2, 502  # fields of Model; any other kind of model is none of ours
# Message -> field number -> the message in that field. MIL.proto, as of coremltools 9.
FIELDS: dict[str, dict[int, str]] = {
    "Program": {2: "Program.FunctionsEntry", 4: "Program.AttributesEntry"},
    "Program.FunctionsEntry": {2: "Function"},
    "Program.AttributesEntry": {2: "Value"},
    "Function": {1: "NamedValueType", 3: "Function.BlockSpecializationsEntry", 4: "Function.AttributesEntry"},
    "Function.BlockSpecializationsEntry": {2: "Block"},
    "Function.AttributesEntry": {2: "Value"},
    "Block": {1: "NamedValueType", 3: "Operation", 4: "Block.AttributesEntry"},
    "Block.AttributesEntry": {2: "Value"},
    "Operation": {
        2: "Operation.InputsEntry",
        3: "NamedValueType",
        4: "Block",
        5: "Operation.AttributesEntry",
    },
    "Operation.InputsEntry": {2: "Argument"},
    "Operation.AttributesEntry": {2: "Value"},
    "Argument": {1: "Argument.Binding"},
    "Argument.Binding": {2: "Value"},
    "NamedValueType": {2: "ValueType"},
    "Value": {2: "ValueType", 3: "Value.ImmediateValue", 5: "Value.BlobFileValue"},
    "Value.ImmediateValue": {2: "TupleValue", 3: "ListValue", 4: "DictionaryValue"},
    "TupleValue": {1: "Value"},
    "ListValue": {1: "Value"},
    "DictionaryValue": {1: "DictionaryValue.KeyValuePair"},
    "DictionaryValue.KeyValuePair": {1: "Value", 2: "Value"},
    "ValueType": {1: "TensorType", 2: "ListType", 3: "TupleType", 4: "DictionaryType", 5: "StateType"},
    "TensorType": {4: "TensorType.AttributesEntry"},  # a type has attributes, which are values
    "TensorType.AttributesEntry": {2: "Value"},
    "ListType": {1: "ValueType"},
    "TupleType": {1: "ValueType"},
    "DictionaryType": {1: "ValueType", 2: "ValueType"},
    "StateType": {1: "ValueType"},
}


def check_package(bundle: Bundle, graph: Graph) -> Path:
    """The package of a graph. Raises IntegrityError where it holds, names or reads what it should not."""
    name = graph.files[0].path.partition("/")[0]
    package = bundle.folder / name
    listed = {ref.path.removeprefix(f"{name}/") for ref in graph.files if ref.path.startswith(f"{name}/")}
    try:
        found = {path.relative_to(package).as_posix() for path in package.rglob("*") if not path.is_dir()}
        links = [path for path in package.rglob("*") if path.is_symlink()]
        if links or through_a_link(bundle.folder, name):
            raise _odd(package, f"leads elsewhere by a link ({min(links).name if links else name})")
        if found != listed or not {"Manifest.json", f"Data/{_PROGRAM}"} <= found <= _HELD:
            odd = sorted(found ^ listed) or sorted(found ^ _HELD)
            raise _odd(package, f"is not what bundle.json lists ({odd[0]})")
        _check_manifest(package)
        for file in weight_files(package / "Data" / _PROGRAM):
            if file != _READS:
                raise _odd(package, f"reads {file.decode(errors='replace')!r} as weights")
    except OSError as e:
        raise _odd(package, f"cannot be read ({e.strerror})") from e
    return package


def weight_files(program: Path) -> set[bytes]:
    """Names of the files that a program reads weights from. Raises IntegrityError where it is none."""
    found: set[bytes] = set()
    try:
        waiting: list[tuple[str, memoryview]] = []
        for number, value in fields(memoryview(program.read_bytes())):
            if number == _ML_PROGRAM:
                waiting.append(("Program", value))
            elif number != _DESCRIPTION:
                raise ValueError(f"a kind of model that PAM is not made of (field {number})")
        if not waiting:
            raise ValueError("no program")
        while waiting:
            kind, message = waiting.pop()
            if kind == "Value.BlobFileValue":
                found |= {bytes(value) for number, value in fields(message) if number == 1}
            inside = FIELDS.get(kind, {})
            waiting += [(inside[number], value) for number, value in fields(message) if number in inside]
    except ValueError as e:
        raise IntegrityError(
            f"{program} is not a readable CoreML program ({e}); copy or export the bundle again"
        ) from e
    return found


def _check_manifest(package: Path) -> None:
    try:
        held: Any = json.loads((package / "Manifest.json").read_text())
        root = held["rootModelIdentifier"]
        named = {key: entry["path"] for key, entry in held["itemInfoEntries"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise _odd(package, f"has a damaged Manifest.json ({e!r})") from e
    if named.get(root) != _PROGRAM or not set(named.values()) <= {_PROGRAM, _WEIGHTS}:
        raise _odd(package, f"names other parts than a program and its weights ({sorted(named.values())})")


def _odd(package: Path, what: str) -> IntegrityError:
    return IntegrityError(
        f"{package} {what}; get the bundle from someone you trust, or copy or export it again"
    )
