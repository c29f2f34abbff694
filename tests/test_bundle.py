"""The bundle's contract: what is right opens and comes back equal, whatever is wrong is an IntegrityError."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_bundle import small_bundle, small_manifest, write_signed

from pam_edge.bundle import builtin
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    SCHEMA,
    Verification,
    read_manifest,
    write_manifest,
)
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, PamEdgeError, UsageError, WontFitError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_bundle(tmp_path / "bundle")


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    write_signed(folder, document)


def test_what_was_written_comes_back_equal(tmp_path: Path) -> None:
    manifest = small_manifest(tmp_path)
    written = write_manifest(tmp_path, manifest)
    bundle = Bundle.open(tmp_path)
    assert bundle.manifest == written == msgspec.structs.replace(manifest, sha256=written.sha256)
    assert bundle.graph("b").files[1].path == "b.data"
    assert bundle.total_bytes == sum(p.stat().st_size for p in tmp_path.iterdir() if p.name != MANIFEST)
    assert not list(tmp_path.glob("*.tmp"))


def test_no_folder_and_no_graph_are_usage_errors(folder: Path) -> None:
    with pytest.raises(UsageError, match="pam-edge export"):
        Bundle.open(folder / "nowhere")
    with pytest.raises(UsageError, match="it holds a, b"):
        Bundle.open(folder).graph("c")


def test_nano_is_a_folder_here_or_else_the_packaged_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(builtin, "BUNDLE", tmp_path / "inside")
    local = tmp_path / "nano"
    local.mkdir()  # holds no bundle
    with pytest.raises(UsageError, match=r"no packaged bundle.*-o nano`") as refused:
        Bundle.open("nano")
    assert "inside" not in str(refused.value)
    small_bundle(tmp_path / "inside")
    assert Bundle.open("nano").folder == tmp_path / "inside"
    small_bundle(local)
    assert Bundle.open("nano").folder == Path("nano")


def test_a_folder_without_manifest_is_an_unfinished_export(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(IntegrityError, match="unfinished export"):
        Bundle.open(folder)


def set_at(*path: str | int, to: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


WRONG: dict[str, Callable[[Any], None]] = {
    "unknown field": set_at("surprise", to=1),
    "unknown nested field": set_at("graphs", 0, "files", 0, "url", to="x"),
    "missing field": lambda d: d.pop("embedding"),
    "missing verification": lambda d: d.pop("verification"),
    "wrong type": set_at("stop_ids", to="7"),
    "number as text": set_at("graphs", 0, "files", 0, "bytes", to="7"),
    "no graphs": set_at("graphs", to=[]),
    "same graph twice": set_at("graphs", 1, "name", to="a"),
    "same tensor twice": lambda d: d["graphs"][0]["inputs"].append(d["graphs"][0]["inputs"][0]),
    "profile of no axis": set_at("graphs", 0, "profiles", to=[{"name": "p", "axes": {"width": [1, 2, 3]}}]),
    "profile in no order": set_at("graphs", 0, "profiles", to=[{"name": "p", "axes": {"length": [2, 1, 3]}}]),
    "bad name": set_at("target", to="CPU; rm"),
    "name with newline": set_at("target", to="cpu\n"),
    "hash with newline": lambda d: set_at("golden", "sha256", to=d["golden"]["sha256"] + "\n")(d),
    "short hash": set_at("golden", "sha256", to="00"),
    "unknown dtype": set_at("graphs", 0, "inputs", 0, "dtype", to="complex64"),
    "extent zero": set_at("graphs", 0, "inputs", 0, "axes", to=[0]),
    "absurd extent": set_at("graphs", 0, "inputs", 0, "axes", to=[1 << 40]),
    "absurd file": set_at("golden", "bytes", to=1 << 62),
    "negative file": set_at("golden", "bytes", to=-1),
    "variant that leads elsewhere": set_at("variant", "name", to="../nano"),
    "absurd image": set_at("variant", "vision", "image_size", to=1 << 30),
    "absurd depth": set_at("variant", "language", "layers", to=1 << 30),
    "embedding of another model": set_at("embedding", "shape", to=[9, 4]),
    "embedding of another size": set_at("embedding", "dtype", to="float16"),
    "embedding in integers without blocks": set_at("embedding", "dtype", to="q8"),
    "embedding in floats with blocks": set_at("embedding", "block", to=32),
    "stop token outside": set_at("stop_ids", to=[8]),
    "no slot for the task": set_at("prompts", "after", to="hello"),
    "two descriptions of one file": set_at("tokenizer", "path", to="a.onnx"),
    "unknown language": set_at("prompts", "tasks", "xx", to={}),
    "unknown kind of weights": set_at("weights", "kind", to="borrowed"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_refused(folder: Path, case: str) -> None:
    edit(folder, lambda document: None)
    Bundle.open(folder)
    edit(folder, WRONG[case])
    with pytest.raises(IntegrityError, match=MANIFEST) as refused:
        Bundle.open(folder)
    assert "sha256 differs" not in str(refused.value)


def test_a_bundle_of_schema_1_still_opens(folder: Path) -> None:
    """As it was written before it said where it was verified."""
    document = json.loads((folder / MANIFEST).read_text())
    checked = {"runtime": "onnxruntime", "host": "Linux", "checks": []}
    document |= {"schema": 1, "verification": checked}
    del document["oldest_engine"]
    write_signed(folder, document)
    manifest = Bundle.open(folder).manifest
    assert manifest.schema == 1 and manifest.oldest_engine == ""
    assert manifest.verification is not None
    assert (manifest.verification.engine, manifest.verification.cpu) == ("", "")
    assert write_manifest(folder, manifest).schema == SCHEMA  # written again, it is of the present form
    assert Bundle.open(folder).manifest.verification == manifest.verification


def test_where_it_was_verified_round_trips(folder: Path) -> None:
    held = Bundle.open(folder).manifest
    checked = Verification(
        runtime="onnxruntime", host="Linux", checks=(), engine="1.32.0", cpu="x86-64: avx512 vnni"
    )
    write_manifest(folder, msgspec.structs.replace(held, verification=checked, oldest_engine="1.22"))
    found = Bundle.open(folder).manifest
    assert (found.schema, found.oldest_engine, found.verification) == (SCHEMA, "1.22", checked)


@pytest.mark.parametrize("version", ["1.22\n", "newest", "1.", "1.2.3.4.5", "9" * 99])
def test_the_oldest_engine_is_a_version(folder: Path, version: str) -> None:
    edit(folder, set_at("oldest_engine", to=version))
    with pytest.raises(IntegrityError, match="oldest_engine"):
        Bundle.open(folder)


@pytest.mark.parametrize("schema", [0, 3, "1", "2", None, True, 1.5, 12])
def test_an_unknown_schema_is_refused_by_number(folder: Path, schema: object) -> None:
    edit(folder, set_at("schema", to=schema))
    with pytest.raises(IntegrityError, match="schema"):
        Bundle.open(folder)


ELSEWHERE = [
    "../a.onnx",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/../../b",
    "x/y",
    "..\\a",
    "C:a",
    "a\0b",
    "a\n",
    "-rf",
    ".hidden",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_a_path_that_is_not_a_plain_file_name_is_refused(folder: Path, path: str) -> None:
    (folder.parent / "a.onnx").write_bytes(b"graph a")
    edit(folder, set_at("graphs", 0, "files", 0, "path", to=path))
    with pytest.raises(IntegrityError):
        Bundle.open(folder)


def test_a_model_that_is_a_folder_opens_but_not_through_a_link(folder: Path) -> None:
    (folder / "m" / "deep").mkdir(parents=True)
    (folder / "a.onnx").rename(folder / "m" / "deep" / "a.onnx")
    edit(folder, set_at("graphs", 0, "files", 0, "path", to="m/deep/a.onnx"))
    opened = Bundle.open(folder)
    assert opened.path(opened.manifest.graphs[0].files[0]).read_bytes() == b"graph a"
    (folder / "m").rename(folder.parent / "elsewhere")
    (folder / "m").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(IntegrityError, match="link"):
        Bundle.open(folder)


def test_links_are_refused(folder: Path) -> None:
    target = folder.parent / "elsewhere"
    shutil.copy(folder / "a.onnx", target)
    (folder / "a.onnx").unlink()
    (folder / "a.onnx").symlink_to(target)
    with pytest.raises(IntegrityError, match="link"):
        Bundle.open(folder)


def test_a_linked_manifest_is_refused(folder: Path) -> None:
    (folder / MANIFEST).rename(folder.parent / "m.json")
    (folder / MANIFEST).symlink_to(folder.parent / "m.json")
    with pytest.raises(IntegrityError):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "name", ["a.onnx", "b.onnx", "b.data", "embedding.bin", "tokenizer.json", "golden.npz"]
)
def test_every_file_is_watched(folder: Path, name: str) -> None:
    """A flipped bit, a byte less and a missing file: each found, and the file named."""
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(IntegrityError, match=name):
        Bundle.open(folder)
    Bundle.open(folder, check=False)  # the hash is what found it
    path.write_bytes(whole[:-1])
    with pytest.raises(IntegrityError, match=f"{name}.*bytes"):
        Bundle.open(folder, check=False)
    path.unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        Bundle.open(folder, check=False)
    path.mkdir()
    with pytest.raises(IntegrityError, match=name):
        Bundle.open(folder, check=False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"schema":' * 100_000,
        b'{"schema": 1, "graphs": ' + b"[" * 200_000,
        b'{"schema": 1e999}',
        b'{"schema": 1}',
    ],
    ids=[
        "empty",
        "cut",
        "null",
        "list",
        "not utf-8",
        "deep",
        "deep objects",
        "deep inside",
        "infinity",
        "bare",
    ],
)
def test_what_is_no_manifest_is_refused(folder: Path, raw: bytes) -> None:
    (folder / MANIFEST).write_bytes(raw)
    with pytest.raises(IntegrityError, match=MANIFEST):
        Bundle.open(folder)


def test_a_manifest_too_large_is_not_even_read(folder: Path) -> None:
    with (folder / MANIFEST).open("r+b") as f:
        f.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(IntegrityError, match="refusing"):
        Bundle.open(folder)


def test_every_byte_of_the_manifest_is_watched(folder: Path) -> None:
    """Not even one that leaves the same values, such as an E for an e in a number, gets through."""
    path = folder / MANIFEST
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(
            whole[:at] + bytes([whole[at] ^ 0x20 if whole[at] in b"eE" else whole[at] ^ 1]) + whole[at + 1 :]
        )
        with pytest.raises(IntegrityError, match=MANIFEST):
            read_manifest(path)
    path.write_bytes(whole)
    read_manifest(path)


def test_a_manifest_edited_by_hand_is_told_as_damaged(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"random"', '"files"'))
    with pytest.raises(IntegrityError, match="its own sha256 differs"):
        Bundle.open(folder, check=False)


@pytest.mark.parametrize("digest", [None, "", "0" * 64])
def test_a_manifest_without_its_sha256_is_refused(folder: Path, digest: str | None) -> None:
    path = folder / MANIFEST
    document = json.loads(path.read_text())
    del document["sha256"]
    path.write_text(json.dumps(document if digest is None else {**document, "sha256": digest}))
    with pytest.raises(IntegrityError, match="sha256"):
        Bundle.open(folder)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mutation_of_the_bytes_gets_past_as_another_error(folder: Path, data: st.DataObject) -> None:
    """Cut, overwritten or inserted bytes give an IntegrityError, never anything else."""
    path = folder / MANIFEST
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(0, 40))
    raw = whole[:at] + data.draw(st.binary(max_size=12)) + whole[at + length :]
    other = folder / "other.json"
    other.write_bytes(raw)
    try:
        read_manifest(other)
    except IntegrityError:
        return
    assert raw == whole


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_any_place_is_taken_or_refused(folder: Path, data: st.DataObject) -> None:
    """A random value in a random place never crashes `open`, and never makes it open a wrong file."""
    document = json.loads((folder / MANIFEST).read_text())
    node, key = document, data.draw(st.sampled_from(sorted(document)))
    while isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans()):
        node = node[key]
        keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
    node[key] = data.draw(values)
    copy = folder.parent / "mutated"
    if not copy.exists():
        shutil.copytree(folder, copy)
    write_signed(copy, document)
    try:
        bundle = Bundle.open(copy)
    except IntegrityError:
        return
    for ref in bundle.manifest.files().values():
        assert bundle.path(ref).resolve().parent == copy.resolve()
        assert bundle.path(ref).stat().st_size == ref.bytes


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(max_size=140) | st.from_regex(r"\A[./\\a-z~:%\0]{1,12}\Z"))
def test_no_file_name_leads_outside(folder: Path, path: str) -> None:
    edit(folder, set_at("golden", "path", to=path))
    try:
        bundle = Bundle.open(folder)
    except IntegrityError:
        return
    assert path == "golden.npz"
    assert bundle.manifest.golden.path == path


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, WontFitError), (errno.EACCES, EnvironmentProblem), (errno.EROFS, EnvironmentProblem)],
)
def test_a_manifest_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[PamEdgeError]
) -> None:
    """The disk fills up, or refuses, at the last moment: the right error, no bundle.json, no leftovers."""
    manifest = small_manifest(tmp_path)

    def fsync(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(error, match="cannot write"):
        write_manifest(tmp_path, manifest)
    assert not (tmp_path / MANIFEST).exists()
    assert not list(tmp_path.glob("*.tmp"))


def test_an_older_manifest_survives_a_failed_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / MANIFEST).read_bytes()

    def replace(self: Path, target: Path) -> Path:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(EnvironmentProblem):
        write_manifest(folder, Bundle.open(folder).manifest)
    assert (folder / MANIFEST).read_bytes() == before
