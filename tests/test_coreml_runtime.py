"""The run side of CoreML, with the evaluator in CoreML's place; and packages that nobody should open."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pytest
from tiny_language import tiny_manifest, tiny_weights

pytest.importorskip("coremltools")

import coremltools as ct
from fake_coreml import FakeModel, away, on_a_mac
from test_coreml_decoder import CLOSE, LM, prompt, reference

from pam_edge.bundle.bundle import Bundle, file_ref
from pam_edge.bundle.config import NANO
from pam_edge.bundle.manifest import Graph
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError
from pam_edge.export.backends.coreml.decoder import CHUNK, decoder_specs, language2coreml
from pam_edge.export.decoder.embedding_file import language2embedding
from pam_edge.quantize.schemes import FP32, scheme_named
from pam_edge.runtimes.common.registry import open_decoder, open_session
from pam_edge.runtimes.coreml.package_files import FIELDS, check_package, weight_files

PACKAGE = "decoder.mlpackage"
PROGRAM = f"{PACKAGE}/Data/com.apple.CoreML/model.mlmodel"


def bundle_of(folder: Path) -> Bundle:
    """What lies in a folder, as the bundle that names all of it."""
    files = sorted(path for path in (folder / PACKAGE).rglob("*") if path.is_file() and not path.is_symlink())
    refs = tuple(file_ref(path, within=folder) for path in files)
    table = file_ref(folder / "embedding.bin")
    inputs, outputs = decoder_specs(LM)
    graph = Graph(name="decoder", files=(*refs, table), inputs=inputs, outputs=outputs)
    manifest = tiny_manifest(msgspec.structs.replace(NANO, name="tiny", language=LM), (graph,), table)
    return Bundle(folder, msgspec.structs.replace(manifest, runtime="coreml"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    tensor = tiny_weights(LM).__getitem__
    language2coreml(LM, tensor, folder / PACKAGE, scheme=scheme_named("fp16"))
    language2embedding(LM, tensor, folder, scheme=FP32)
    return folder


@pytest.fixture
def bundle(made: Path) -> Bundle:
    return bundle_of(made)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield on_a_mac(monkeypatch)
    away()


@pytest.mark.skipif(sys.platform == "darwin", reason="there CoreML is")
def test_elsewhere_it_says_where_to_go(bundle: Bundle) -> None:
    for call in (lambda: open_decoder(bundle), lambda: open_session(bundle, "decoder")):
        with pytest.raises(EnvironmentProblem, match="open this bundle on a Mac"):
            call()


def test_a_bundle_s_decoder_answers_like_the_reference(bundle: Bundle, engine: ModuleType) -> None:
    ours, theirs = open_decoder(bundle), reference()
    found, wanted = (each.prefill([prompt(CHUNK + 3)]) for each in (ours, theirs))
    np.testing.assert_allclose(found, wanted, atol=CLOSE * np.abs(wanted).max(), rtol=0)
    np.testing.assert_array_equal(ours.embed([3, 0]), theirs.embed([3, 0]))
    branch, other = ours.branch(2), theirs.branch(2)
    np.testing.assert_allclose(
        branch.step([4, 5]), other.step([4, 5]), atol=CLOSE * np.abs(wanted).max(), rtol=0
    )


def test_a_chunk_is_one_call_and_a_token_another_function_s(bundle: Bundle, engine: ModuleType) -> None:
    decoder = open_decoder(bundle)
    prefill, step = decoder._prefill, decoder._step  # type: ignore[attr-defined]
    decoder.prefill([prompt(2 * CHUNK + 1)])
    assert (prefill.calls, step.calls) == (3, 0)
    decoder.step([1])
    assert (prefill.calls, step.calls) == (3, 1)
    assert prefill.compute_units == step.compute_units == ct.ComputeUnit.CPU_AND_GPU


def test_threads_are_coreml_s_own(bundle: Bundle, engine: ModuleType) -> None:
    with pytest.raises(UsageError, match="chooses its own threads"):
        open_decoder(bundle, threads=2)


def test_what_the_engine_says_comes_back_as_ours(
    bundle: Bundle, engine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = open_decoder(bundle)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("Error computing\n NN outputs")

    monkeypatch.setattr(FakeModel, "predict", fails)
    with pytest.raises(IntegrityError, match="graph decoder failed: Error computing NN outputs"):
        decoder.prefill([prompt(2)])
    assert decoder.lengths == (0,)
    monkeypatch.setattr(FakeModel, "__init__", fails)
    with pytest.raises(IntegrityError, match=r"CoreML refuses .*decoder\.mlpackage: Error computing"):
        open_decoder(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: replaced(m, max_length=LM.max_length + 1),
            "cache holds 158 positions, the variant reads 159",
        ),
        (lambda m: replaced(m, layers=3), "states have shape"),
        (lambda m: replaced(m, vocab_size=98), "logits is not float32"),
    ],
)
def test_a_package_that_is_not_what_bundle_json_says_is_refused(
    bundle: Bundle, engine: ModuleType, change: Callable[[Bundle], Bundle], message: str
) -> None:
    with pytest.raises(IntegrityError, match=message):
        open_decoder(change(bundle))


def replaced(bundle: Bundle, **numbers: int) -> Bundle:
    """The bundle with other numbers in its variant, and borders to match."""
    manifest = bundle.manifest
    language = msgspec.structs.replace(manifest.variant.language, **numbers)
    inputs, outputs = decoder_specs(language)
    (graph,) = manifest.graphs
    graph = msgspec.structs.replace(graph, inputs=inputs, outputs=outputs)
    variant = msgspec.structs.replace(manifest.variant, language=language)
    return Bundle(bundle.folder, msgspec.structs.replace(manifest, variant=variant, graphs=(graph,)))


def edited(folder: Path, change: Callable[[object], None]) -> None:
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString((folder / PROGRAM).read_bytes())
    change(spec)
    (folder / PROGRAM).write_bytes(spec.SerializeToString())


def first_file(spec: object) -> object:
    """A value of the program that lies in a file."""
    for op in next(iter(spec.mlProgram.functions["step"].block_specializations.values())).operations:  # type: ignore[attr-defined]
        if op.attributes["val"].HasField("blobFileValue"):
            return op.attributes["val"].blobFileValue
    raise AssertionError("no weights in files")


def other_weights(spec: object) -> None:
    first_file(spec).fileName = "@model_path/../../../../../etc/passwd"  # type: ignore[attr-defined]


def hidden_weights(spec: object) -> None:
    held = spec.mlProgram.attributes["x"].immediateValue.tuple.values.add()  # type: ignore[attr-defined]
    held.immediateValue.list.values.add().blobFileValue.fileName = "/etc/passwd"


def weights_of_a_type(spec: object) -> None:
    given = spec.mlProgram.functions["step"].inputs[0]  # type: ignore[attr-defined]
    given.type.tensorType.attributes["x"].blobFileValue.fileName = "/etc/passwd"


def named(folder: Path, **changes: str) -> None:
    path = folder / PACKAGE / "Manifest.json"
    held = json.loads(path.read_text())
    for entry in held["itemInfoEntries"].values():
        entry["path"] = changes.get(entry["name"].partition(".")[0], entry["path"])
    path.write_text(json.dumps(held))


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights elsewhere": (lambda f: edited(f, other_weights), "reads '@model_path/../"),
    "weights deep inside": (lambda f: edited(f, hidden_weights), "reads '/etc/passwd'"),
    "weights of a type": (lambda f: edited(f, weights_of_a_type), "reads '/etc/passwd'"),
    "another kind of model": (lambda f: edited(f, lambda s: s.customModel.SetInParent()), "a kind of model"),  # type: ignore[attr-defined]
    "no program": (lambda f: (f / PROGRAM).write_bytes(b""), "no program"),
    "no protobuf": (lambda f: (f / PROGRAM).write_bytes(b"\xff" * 40), "not a readable CoreML program"),
    "a program elsewhere": (lambda f: named(f, model="../../../other.mlmodel"), "names other parts"),
    "a manifest that is none": (
        lambda f: (f / PACKAGE / "Manifest.json").write_text("[]"),
        "damaged Manifest",
    ),
    "a further file": (
        lambda f: (f / PACKAGE / "Data" / "more.mlmodel").write_bytes(b"x"),
        "not what bundle.json",
    ),
    "a missing file": (lambda f: (f / PACKAGE / "Manifest.json").unlink(), "not what bundle.json"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_package_is_refused_before_it_is_opened(made: Path, tmp_path: Path, case: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(made, folder)
    check_package(bundle_of(folder), bundle_of(folder).graph("decoder"))
    spoil, message = HOSTILE[case]
    spoil(folder)
    with pytest.raises(IntegrityError, match=message):
        check_package(bundle_of(folder), bundle_of(folder).graph("decoder"))


def test_a_file_that_the_bundle_does_not_list_is_refused(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(made, folder)
    bundle = bundle_of(folder)
    (folder / PACKAGE / "Data" / "extra").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"not what bundle\.json lists \(Data/extra\)"):
        check_package(bundle, bundle.graph("decoder"))


@pytest.mark.parametrize("linked", [PACKAGE, f"{PACKAGE}/Data", PROGRAM])
def test_links_are_refused(made: Path, tmp_path: Path, linked: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(made, folder)
    bundle = bundle_of(folder)
    elsewhere = tmp_path / "elsewhere"
    (folder / linked).rename(elsewhere)
    (folder / linked).symlink_to(elsewhere)
    with pytest.raises(IntegrityError, match="link"):
        check_package(bundle, bundle.graph("decoder"))


def test_the_walk_follows_apple_s_own_messages() -> None:
    mil = ct.proto.MIL_pb2
    reach = {"Value.BlobFileValue"}
    messages = {}
    waiting = [mil.Program.DESCRIPTOR]
    while waiting:
        found = waiting.pop()
        name = found.full_name.rpartition("MILSpec.")[2]
        if name not in messages:
            fields = {f.number: f.message_type for f in found.fields if f.message_type is not None}
            messages[name] = {n: m.full_name.rpartition("MILSpec.")[2] for n, m in fields.items()}
            waiting += fields.values()
    while more := {name for name, inside in messages.items() if reach & {*inside.values()}} - reach:
        reach |= more
    for name in reach - {"Value.BlobFileValue"}:
        wanted = {number: kind for number, kind in messages[name].items() if kind in reach}
        assert wanted.items() <= FIELDS[name].items(), name


def test_the_walk_finds_what_a_real_program_reads(made: Path) -> None:
    assert weight_files(made / PROGRAM) == {b"@model_path/weights/weight.bin"}
