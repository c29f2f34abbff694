"""The smallest folder that opens as a bundle: right in every field, its graph files mere stand-ins."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from pam_edge.bundle.bundle import file_ref
from pam_edge.bundle.config import NANO, LanguageConfig
from pam_edge.bundle.manifest import (
    MANIFEST,
    SCHEMA,
    Embedding,
    Graph,
    Manifest,
    Prompts,
    TensorSpec,
    Weights,
    write_manifest,
)

LANGUAGE = LanguageConfig(vocab_size=8, hidden_size=4, layers=1, heads=2, kv_heads=1, mlp=8, head_dim=2)


def small_manifest(folder: Path) -> Manifest:
    """Write the files of a small bundle into `folder` and describe them, without bundle.json."""
    for name, content in {
        "a.onnx": b"graph a",
        "b.onnx": b"graph b",
        "b.data": b"weights",
        "tokenizer.json": b"{}",
    }.items():
        (folder / name).write_bytes(content)
    (folder / "embedding.bin").write_bytes(bytes(8 * 4 * 4))
    (folder / "golden.npz").write_bytes(b"golden")
    x = TensorSpec(name="x", dtype="float32", axes=(1, "length"))
    return Manifest(
        schema=SCHEMA,
        variant=msgspec.structs.replace(NANO, language=LANGUAGE),
        weights=Weights(kind="random", source="random:nano"),
        target="cpu",
        runtime="onnxruntime",
        scheme="fp32",
        graphs=(
            Graph(name="a", files=(file_ref(folder / "a.onnx"),), inputs=(x,), outputs=(x,)),
            Graph(
                name="b",
                files=(
                    file_ref(folder / "b.onnx"),
                    file_ref(folder / "b.data"),
                    file_ref(folder / "embedding.bin"),
                ),
                inputs=(x,),
                outputs=(x,),
            ),
        ),
        embedding=Embedding(file=file_ref(folder / "embedding.bin"), dtype="float32", shape=(8, 4)),
        tokenizer=file_ref(folder / "tokenizer.json"),
        prompts=Prompts(before="look: ", after=" {task} ", tasks={"en": {"recognize": "What is it?"}}),
        stop_ids=(7,),
        tools={"pam-edge": "0"},
        golden=file_ref(folder / "golden.npz"),
        verification=None,
    )


def small_bundle(folder: Path) -> Path:
    """A complete small bundle in `folder` (made where it is not there)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, small_manifest(folder))
    return folder


def write_signed(folder: Path, document: dict[str, Any]) -> None:
    """Make any document, a valid manifest or not, the bundle.json of a folder, with its own sha256 right."""
    blank = json.dumps({**document, "sha256": ""})
    digest = hashlib.sha256(blank.encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({**document, "sha256": digest}))


def replace(folder: Path, name: str, raw: bytes) -> None:
    """Put other bytes in a file of a bundle and make bundle.json agree, as a bug or an attacker would."""
    (folder / name).write_bytes(raw)
    document = json.loads((folder / MANIFEST).read_text())

    def walk(node: Any) -> None:
        for value in node.values() if isinstance(node, dict) else node:
            if isinstance(value, dict) and value.get("path") == name:
                value |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
            if isinstance(value, (dict, list)):
                walk(value)

    walk(document)
    write_signed(folder, document)
