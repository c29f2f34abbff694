"""ONNX Runtime behind `Session` and `Decoder`: bad calls, bad files, and the cache in place."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tiny_language import TINY, tiny_bundle

from pam_edge.bundle.bundle import Bundle, file_ref
from pam_edge.bundle.manifest import Graph, TensorSpec
from pam_edge.core.errors import IntegrityError, UsageError, WontFitError
from pam_edge.runtimes.common.host_cache import HostCache
from pam_edge.runtimes.common.registry import open_decoder, open_session
from pam_edge.runtimes.onnxruntime.external_files import external_files
from pam_edge.runtimes.onnxruntime.session import OrtDecoder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def bundle(exported: Bundle, tmp_path: Path) -> Bundle:
    """A copy to damage."""
    shutil.copytree(exported.folder, tmp_path, dirs_exist_ok=True)
    return Bundle(tmp_path, exported.manifest)


def with_graph(bundle: Bundle, graph: Graph) -> Bundle:
    return Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, graphs=(graph,)))


@pytest.fixture
def adder(bundle: Bundle) -> Bundle:
    """A graph `adder`: total [1, n, 4] = a [1, n, 4] + b [1, n, 4] * scale [1]."""
    shapes = {"a": (1, "n", 4), "b": (1, "n", 4), "scale": (1,)}
    values = [helper.make_tensor_value_info(k, TensorProto.FLOAT, list(v)) for k, v in shapes.items()]
    out = helper.make_tensor_value_info("total", TensorProto.FLOAT, [1, "n", 4])
    nodes = [
        helper.make_node("Mul", ["b", "scale"], ["scaled"]),
        helper.make_node("Add", ["a", "scaled"], ["total"]),
    ]
    graph = helper.make_graph(nodes, "adder", values, [out])
    path = bundle.folder / "adder.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    specs = tuple(TensorSpec(name=k, dtype="float32", axes=v) for k, v in shapes.items())
    total = TensorSpec(name="total", dtype="float32", axes=(1, "n", 4))
    return with_graph(bundle, Graph(name="adder", files=(file_ref(path),), inputs=specs, outputs=(total,)))


def feeds(n: int = 3) -> dict[str, np.ndarray]:
    a = np.arange(4 * n, dtype=np.float32).reshape(1, n, 4)
    return {"a": a, "b": a + 1, "scale": np.array([2], np.float32)}


@pytest.mark.parametrize("n", [1, 3])
def test_session_runs(adder: Bundle, n: int) -> None:
    given = feeds(n)
    outputs = open_session(adder, "adder", threads=1).run(given)
    assert list(outputs) == ["total"]
    np.testing.assert_array_equal(outputs["total"], given["a"] + 2 * given["b"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": None}, "lacks input a; adder takes a, b, scale"),
        ({"c": np.zeros(1, np.float32)}, "adder has no input c"),
        ({"a": np.zeros((1, 3, 4))}, r"a must be float32 \[1, n, 4\].*; got float64 \[1, 3, 4\]"),
        ({"a": np.zeros((1, 3, 5), np.float32)}, r"got float32 \[1, 3, 5\]"),
        ({"a": np.zeros((3, 4), np.float32)}, r"got float32 \[3, 4\]"),
        ({"b": np.zeros((1, 2, 4), np.float32)}, r"b must be .* where n = 3; got float32 \[1, 2, 4\]"),
    ],
)
def test_wrong_feeds_are_named(adder: Bundle, change: dict[str, np.ndarray | None], words: str) -> None:
    session = open_session(adder, "adder", threads=1)
    wrong = {k: v for k, v in (feeds() | change).items() if v is not None}
    with pytest.raises(UsageError, match=words):
        session.run(wrong)


def test_unknown_graph_and_threads(adder: Bundle) -> None:
    with pytest.raises(UsageError, match="no graph 'tail'; it holds adder"):
        open_session(adder, "tail")
    with pytest.raises(UsageError, match="threads"):
        open_session(adder, "adder", threads=-1)


def cut(path: Path, keep: float) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty graph": lambda folder: cut(folder / "decoder.onnx", 0),
    "half a graph": lambda folder: cut(folder / "decoder.onnx", 0.5),
    "most of a graph": lambda folder: cut(folder / "decoder.onnx", 0.99),
    "noise": lambda folder: (folder / "decoder.onnx").write_bytes(bytes(range(256)) * 40),
    "no graph": lambda folder: (folder / "decoder.onnx").unlink(),
    "half the weights": lambda folder: cut(folder / "decoder.bin", 0.5),
    "no weights": lambda folder: (folder / "decoder.bin").unlink(),
    "half an embedding": lambda folder: cut(folder / "embedding.bin", 0.5),
    "no embedding": lambda folder: (folder / "embedding.bin").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_integrity_errors(
    bundle: Bundle, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    DAMAGE[damage](bundle.folder)
    with pytest.raises(IntegrityError, match="again"):
        open_decoder(bundle, threads=1)
    assert capfd.readouterr() == ("", "")  # the engine's own log stays silent


def relocated(tensor: TensorProto, place: str) -> None:
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = place


@pytest.mark.parametrize("place", ["../outside.bin", "/etc/passwd", "unnamed.bin", "*/_ORT_MEM_ADDR_/*", ""])
def test_files_outside_the_manifest_are_refused(bundle: Bundle, place: str) -> None:
    for copied in (bundle.folder.parent / "outside.bin", bundle.folder / "unnamed.bin"):
        shutil.copy(bundle.folder / "decoder.bin", copied)
    path = bundle.folder / "decoder.onnx"
    model = onnx.load(path, load_external_data=False)
    relocated(model.graph.initializer[5], place)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(IntegrityError, match="does not name for it"):
        open_decoder(bundle, threads=1)


@pytest.mark.parametrize("where", ["initializer", "sparse", "constant", "subgraph", "function"])
def test_files_are_found_wherever_a_tensor_may_be(tmp_path: Path, where: str) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(value="deep.bin", key="location")
    inner = helper.make_graph([], "inner", [], [], [tensor])
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    model = helper.make_model(helper.make_graph([], "g", [], []))
    match where:
        case "initializer":
            model.graph.initializer.append(tensor)
        case "sparse":
            model.graph.sparse_initializer.add().values.CopyFrom(tensor)
        case "constant":
            model.graph.node.append(node)
        case "subgraph":
            model.graph.node.append(
                helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
            )
        case "function":
            model.functions.append(
                helper.make_function("d", "f", [], ["c"], [node], [helper.make_opsetid("", 20)])
            )
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert external_files(path) == {"deep.bin"}


def test_files_of_a_whole_bundle(exported: Bundle) -> None:
    assert external_files(exported.folder / "decoder.onnx") == {"decoder.bin", "embedding.bin"}


@given(st.binary(max_size=200))
def test_noise_is_refused_or_holds_no_files(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.onnx"
    path.write_bytes(noise)
    with contextlib.suppress(IntegrityError):
        external_files(path)


def test_graph_and_manifest_must_agree(bundle: Bundle) -> None:
    graph = bundle.graph("decoder")
    logits = TensorSpec(name="logits", dtype="float32", axes=("batch", TINY.vocab_size + 1))
    wider = msgspec.structs.replace(graph, outputs=(logits, *graph.outputs[1:]))
    with pytest.raises(IntegrityError, match="logits is float32"):
        open_decoder(with_graph(bundle, wider))
    fewer = msgspec.structs.replace(graph, outputs=graph.outputs[1:])
    with pytest.raises(IntegrityError, match=r"not the graph .* \(logits\)"):
        open_decoder(with_graph(bundle, fewer))
    other = msgspec.structs.replace(TINY, kv_heads=4)
    variant = msgspec.structs.replace(bundle.manifest.variant, language=other)
    with pytest.raises(IntegrityError, match="past_key"):
        open_decoder(Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, variant=variant)))


def test_cache_is_written_in_place_and_read_no_further(exported: Bundle) -> None:
    """Positions that no row holds are made not-a-number: one read of them would spoil every logit."""
    decoder, plain = OrtDecoder(exported, threads=1), OrtDecoder(exported, threads=1)
    rows = np.random.default_rng(0).standard_normal((40, TINY.hidden_size), dtype=np.float32)
    for each in (decoder, plain):
        each.prefill([rows[:30]])
    two, plain_two = decoder.branch(2), plain.branch(2)
    for each in (two, plain_two):
        each.prefill([rows[30:33], rows[30:40]])
    buffers = two._cache.arrays
    places = [a.ctypes.data for a in buffers]
    for row, length in enumerate(two.lengths):
        for array in buffers:
            array[row, :, length:] = np.nan
    before = [a.copy() for a in buffers]
    np.testing.assert_array_equal(two.step([1, 2]), plain_two.step([1, 2]))
    assert [a.ctypes.data for a in two._cache.arrays] == places
    for array, old in zip(two._cache.arrays, before, strict=True):
        for row, length in enumerate((33, 40)):
            assert np.isfinite(array[row, :, length]).all()  # the new position is there
            np.testing.assert_array_equal(array[row, :, :length], old[row, :, :length])
            assert np.isnan(array[row, :, length + 1 :]).all()


def test_no_memory_for_a_cache_is_said() -> None:
    with pytest.raises(WontFitError, match="no memory for a cache"):
        HostCache(TINY, 1 << 20, 1 << 25)


def test_embedding_must_fit_the_variant(bundle: Bundle) -> None:
    embedding = msgspec.structs.replace(bundle.manifest.embedding, shape=(TINY.vocab_size, 8))
    with pytest.raises(IntegrityError, match="embedding"):
        open_decoder(Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, embedding=embedding)))
