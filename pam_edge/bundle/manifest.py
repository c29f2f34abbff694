"""`bundle.json`: a strict, versioned description of a bundle. The only contract between export and runtimes.

An unknown schema, unknown or missing fields, wrong types and contradictions raise IntegrityError. Writing is
atomic: `bundle.json` is written last (temporary name, fsync, rename), so a folder without it is an unfinished
export. Knows no engine, no model and no device.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from pam_edge.bundle.config import Variant
from pam_edge.core.errors import IntegrityError, cannot_write

# The form that is written. Any new field raises it, so that an earlier pam-edge says which version it lacks
# instead of "unknown field"; new fields have defaults, and every form that was ever on main still opens.
# 1: the first. 2: where a bundle was verified (`Verification.engine`, `.cpu`), `Manifest.oldest_engine`.
SCHEMA: Final = 2
MANIFEST = "bundle.json"
MAX_MANIFEST_BYTES = 4 << 20
# `\Z`, not `$`: the latter would let a trailing newline through.
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.\-]{0,63}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Commit = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}\Z")]
# No folder, no drive, no "..".
_FILE = r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}"
FileName = Annotated[str, Meta(pattern=rf"^{_FILE}\Z")]
# Some engines' models are folders.
RelativePath = Annotated[str, Meta(pattern=rf"^{_FILE}(/{_FILE}){{0,5}}\Z")]
Text = Annotated[str, Meta(max_length=4096)]
Short = Annotated[str, Meta(max_length=64)]
Axis = Annotated[int, Meta(ge=1, le=1 << 24)] | Name  # a fixed extent, or the name of a free one
Dtype = Literal["float32", "float16", "int8", "uint8", "int32", "int64", "bool"]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every record in bundle.json: immutable, every field checked, none unknown."""


class FileRef(_Strict, frozen=True):
    """One file of the bundle, relative to its folder."""

    path: RelativePath
    bytes: Annotated[int, Meta(ge=0, le=1 << 50)]
    sha256: Sha256


class TensorSpec(_Strict, frozen=True):
    """A named tensor at a graph's border; axes are fixed extents or names of free ones."""

    name: Name
    dtype: Dtype
    axes: Annotated[tuple[Axis, ...], Meta(max_length=8)]


class Profile(_Strict, frozen=True):
    """Shapes that an engine is compiled for: least, usual and greatest extent of each free axis."""

    name: Name
    axes: dict[
        Name, tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]]
    ]


class Graph(_Strict, frozen=True, omit_defaults=True):
    """One graph: the file its engine opens first, then any files of weights beside it.

    What only one engine needs to know of a graph is a field with a default.
    """

    name: Name
    files: Annotated[tuple[FileRef, ...], Meta(min_length=1)]
    inputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    profiles: tuple[Profile, ...] = ()  # TensorRT's

    def input(self, name: str) -> TensorSpec:
        """The input of that name. Raises IntegrityError where the graph has none."""
        for spec in self.inputs:
            if spec.name == name:
                return spec
        raise IntegrityError(f"graph {self.name} has no input {name!r}; the bundle does not fit this version")


class Embedding(_Strict, frozen=True, omit_defaults=True):
    """The token embedding [vocabulary, hidden], row-major, stored once: the tied head reads the same file.

    q8 and q4: codes [vocabulary, blocks, bytes], `block` values of a row each, zero in the middle of their
    range, the earlier of two in a byte in the low half; from the next multiple of 4096 on, float32 scales.
    """

    file: FileRef
    dtype: Literal["float32", "float16", "q8", "q4"]
    shape: tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]]
    block: Annotated[int, Meta(ge=16, le=1024, multiple_of=16)] | None = None

    def layout(self) -> tuple[tuple[int, ...], int, int]:
        """Shape of the numbers or codes that the file begins with, where scales begin, where they end."""
        if self.block is None:
            size = math.prod(self.shape) * (4 if self.dtype == "float32" else 2)
            return self.shape, size, size
        blocks = -(-self.shape[1] // self.block)
        codes = (self.shape[0], blocks, self.block if self.dtype == "q8" else self.block // 2)
        scales = -(-math.prod(codes) // 4096) * 4096
        return codes, scales, scales + 4 * self.shape[0] * blocks


class Prompts(_Strict, frozen=True):
    """Text around the visual tokens, and one question per task and language (`{history}` is a slot)."""

    before: Text
    after: Text  # holds `{task}`
    tasks: dict[Literal["en", "zh"], dict[Name, Text]]


class Weights(_Strict, frozen=True, omit_defaults=True):
    """Where the numbers came from, so that nothing passes for what it is not."""

    kind: Literal["files", "random"]
    source: Text  # a folder's name, ORG/NAME on the Hugging Face hub or random:VARIANT, never a full path
    revision: Commit | None = None  # of ORG/NAME
    sam2: Text | None = None  # ORG/NAME@COMMIT:FILE, where SAM 2's file came from the hub


class Check(_Strict, frozen=True):
    """One line of the verification table; `worst` and `limit` are in the unit of `measure`."""

    graph: Name
    measure: Text
    worst: float
    limit: float
    ok: bool


class Verification(_Strict, frozen=True):
    """What the bundle's own runtime gave against PyTorch's golden outputs, and where."""

    runtime: Text
    host: Text
    checks: tuple[Check, ...]
    engine: Short = ""  # the engine's version; "" in schema 1, or where its package does not tell
    cpu: Short = ""  # the CPU's kind (cpu_kind.py); "" in schema 1, or where the system does not tell

    @property
    def ok(self) -> bool:
        """True where every check holds."""
        return all(check.ok for check in self.checks)


class Manifest(_Strict, frozen=True):
    """bundle.json, schema 1 or 2."""

    schema: Literal[1, 2]
    variant: Variant
    weights: Weights
    target: Name
    runtime: Name
    scheme: Name
    graphs: Annotated[tuple[Graph, ...], Meta(min_length=1)]
    embedding: Embedding
    tokenizer: FileRef
    prompts: Prompts
    stop_ids: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=1)]
    tools: dict[str, str]
    golden: FileRef
    verification: Verification | None
    # The same files in another engine, on the machine of the export; absent where its own engine was there.
    rehearsal: Verification | msgspec.UnsetType = msgspec.UNSET
    oldest_engine: Annotated[str, Meta(pattern=r"^([0-9]{1,6}(\.[0-9]{1,6}){0,3})?\Z")] = ""  # "": not known
    sha256: Sha256 | Literal[""] = ""  # of this file with these digits cut out; blank until it is written

    def files(self) -> dict[str, FileRef]:
        """Every file the bundle consists of, by path (files shared between graphs once)."""
        refs = [ref for graph in self.graphs for ref in graph.files]
        refs += [self.embedding.file, self.tokenizer, self.golden]
        found: dict[str, FileRef] = {}
        for ref in refs:
            if found.setdefault(ref.path, ref) != ref:
                raise IntegrityError(f"{MANIFEST} describes {ref.path!r} in two different ways")
        return found


def read_manifest(path: Path) -> Manifest:
    """Parse and check bundle.json. Raises IntegrityError that says what is wrong."""
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(
            f"{path.parent} has no {MANIFEST}: not a bundle, or an unfinished export (run export again)"
        )
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise IntegrityError(f"{path} is over {MAX_MANIFEST_BYTES >> 20} MiB; refusing to read it")
    raw = path.read_bytes()
    try:
        fields: dict[str, msgspec.Raw] = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        schema = fields.get("schema")
        if schema is None or bytes(schema) not in [str(n).encode() for n in range(1, SCHEMA + 1)]:
            found = "none" if schema is None else bytes(schema)[:20].decode(errors="replace")
            raise IntegrityError(
                f"{path} has schema {found}; this version reads up to schema {SCHEMA}: "
                "use the pam-edge that wrote it, or export again"
            )
        manifest: Manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise IntegrityError(f"{path} is not a valid manifest: {e}") from e
    if hashlib.sha256(raw.replace(manifest.sha256.encode(), b"")).hexdigest() != manifest.sha256:
        raise IntegrityError(f"{path} is damaged (its own sha256 differs); copy or export the bundle again")
    if flaw := _flaw(manifest):
        raise IntegrityError(f"{path} contradicts itself: {flaw}; export the bundle again")
    return manifest


def _flaw(manifest: Manifest) -> str | None:
    """What no single field shows: the first contradiction between fields, if any."""
    language, embedding = manifest.variant.language, manifest.embedding
    names = [graph.name for graph in manifest.graphs]
    if len(set(names)) < len(names):
        return "two graphs have the same name"
    for graph in manifest.graphs:
        for tensors in (graph.inputs, graph.outputs):
            if len({t.name for t in tensors}) < len(tensors):
                return f"graph {graph.name} names a tensor twice"
    for graph in manifest.graphs:
        free = {axis for spec in graph.inputs for axis in spec.axes if isinstance(axis, str)}
        for profile in graph.profiles:
            if profile.axes.keys() != free:
                return f"profile {profile.name} of graph {graph.name} is not of its free axes"
            if any(list(extents) != sorted(extents) for extents in profile.axes.values()):
                return f"profile {profile.name} of graph {graph.name} has extents out of order"
    if embedding.shape != (language.vocab_size, language.hidden_size):
        return f"the embedding's shape {embedding.shape} is not the variant's vocabulary and width"
    if (embedding.block is None) != (embedding.dtype in ("float32", "float16")):
        return f"an embedding of {embedding.dtype} cannot have block {embedding.block}"
    if embedding.file.bytes != embedding.layout()[2]:
        return f"{embedding.file.path} has {embedding.file.bytes} bytes, not what {embedding.shape} takes"
    if max(manifest.stop_ids) >= language.vocab_size:
        return f"a stop token lies outside the vocabulary of {language.vocab_size}"
    if "{task}" not in manifest.prompts.after:
        return "the prompt has no slot {task}"
    return None


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write bundle.json last and atomically: the step that makes a folder a bundle. Returns it signed, and in
    the present schema.
    """
    path, temporary = folder / MANIFEST, folder / (MANIFEST + ".tmp")
    manifest = msgspec.structs.replace(manifest, schema=SCHEMA)
    digest = hashlib.sha256(_encoded(msgspec.structs.replace(manifest, sha256=""))).hexdigest()
    manifest = msgspec.structs.replace(manifest, sha256=digest)
    try:
        with temporary.open("wb") as f:
            f.write(_encoded(manifest))
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, e) from e
    return manifest


def _encoded(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)
