"""The gate lets a faithful bundle pass and names the graph that an injected fault is in.

nano, held to its own float numbers: nothing is lost until a test spoils one graph.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from command import pam_edge
from onnx import numpy_helper
from small_bundle import replace

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.golden import Golden, Limits, Losses, golden_bytes
from pam_edge.core.errors import IntegrityError, QualityError
from pam_edge.quantize.reference import reference_golden
from pam_edge.targets import target_named
from pam_edge.verify.golden_runner import ANSWER
from pam_edge.verify.verify import require_ok, verify

FOUND = target_named("cpu").tolerance("int4")  # the loosest limits in use
assert isinstance(FOUND, Losses)
LOSSES: Losses = FOUND


@pytest.fixture(scope="module")
def reference(float_nano: Path) -> bytes:
    return reference_golden(Bundle.open(float_nano), LOSSES, threads=1)


@pytest.fixture
def gated(float_nano: Path, reference: bytes, tmp_path: Path) -> Path:
    """nano with a golden file that the gate reads, this test's own to spoil."""
    folder = tmp_path / "gated"
    shutil.copytree(float_nano, folder)
    replace(folder, "golden.npz", reference)
    return folder


def off(folder: Path) -> list[str]:
    """Graphs with a check that does not hold, in order, once each."""
    checks = verify(Bundle.open(folder), threads=1).checks
    return list(dict.fromkeys(check.graph for check in checks if not check.ok))


def rewrite(folder: Path, graph: str, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(folder / f"{graph}.onnx", load_external_data=False)
    change(model)
    replace(folder, f"{graph}.onnx", model.SerializeToString())


def zero(folder: Path, graph: str) -> None:
    """The largest weight of a graph becomes zeros, as if its scale had."""

    def change(model: onnx.ModelProto) -> None:
        largest = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
        values = numpy_helper.to_array(largest)
        largest.CopyFrom(numpy_helper.from_array(np.zeros_like(values), largest.name))

    rewrite(folder, graph, change)


def entries(model: onnx.ModelProto, layer: int, kinds: Iterable[str] = ("",)) -> dict[str, onnx.TensorProto]:
    at = f"language.layers.{layer}."
    return {
        tensor.name.removeprefix(at): tensor
        for tensor in model.graph.initializer
        if tensor.name.startswith(at) and any(kind in tensor.name for kind in kinds)
    }


def drop_layer(folder: Path) -> None:
    """What a layer adds is nothing: its two outputs are zeros."""
    raw = bytearray((folder / "decoder.bin").read_bytes())
    model = onnx.load(folder / "decoder.onnx", load_external_data=False)
    dropped = entries(model, 2, ("o_proj.weight", "down_proj.weight"))
    assert len(dropped) == 2
    for tensor in dropped.values():
        place = {item.key: item.value for item in tensor.external_data}
        offset, length = int(place["offset"]), int(place["length"])
        raw[offset : offset + length] = bytes(length)
    replace(folder, "decoder.bin", bytes(raw))


def swap_layers(folder: Path) -> None:
    """Two layers, each in the other's place."""

    def change(model: onnx.ModelProto) -> None:
        a, b = entries(model, 1), entries(model, 2)
        assert a.keys() == b.keys()
        for kind, tensor in a.items():
            tensor.name, b[kind].name = b[kind].name, tensor.name

    rewrite(folder, "decoder", change)


def test_nothing_is_lost_where_nothing_was_done(gated: Path) -> None:
    verification = verify(Bundle.open(gated), threads=1)
    require_ok(verification)
    assert {check.graph for check in verification.checks} == {
        *(graph.name for graph in Bundle.open(gated).manifest.graphs),
        ANSWER,
    }
    assert all(check.worst < 1e-3 for check in verification.checks), "float16 of the recorded inputs"


@pytest.mark.parametrize(
    ("graph", "spoil"),
    [
        ("image_encoder", lambda folder: zero(folder, "image_encoder")),
        ("mask_decoder", lambda folder: zero(folder, "mask_decoder")),
        ("perceiver", lambda folder: zero(folder, "perceiver")),
        ("decoder", drop_layer),
        ("decoder", swap_layers),
    ],
    ids=["image_encoder", "mask_decoder", "perceiver", "dropped layer", "swapped layers"],
)
def test_a_fault_is_blamed_on_its_graph_alone(gated: Path, graph: str, spoil: Callable[[Path], None]) -> None:
    spoil(gated)
    assert off(gated)[0] == graph
    assert set(off(gated)) <= {graph, ANSWER}
    result = pam_edge("verify", gated, "--threads", "1")
    assert result.code == 4
    assert graph in result.err
    assert "OFF" in result.out


def test_noise_counts_by_its_size(gated: Path) -> None:
    """Weights that are off by less than is allowed pass; by more, fail."""
    graph = "perceiver"
    sound = (gated / f"{graph}.onnx").read_bytes()
    for share, wanted in ((0.005, []), (0.5, [graph])):
        replace(gated, f"{graph}.onnx", sound)

        def shake(model: onnx.ModelProto, share: float = share) -> None:
            rng = np.random.default_rng(0)
            for tensor in model.graph.initializer:
                values = numpy_helper.to_array(tensor)
                if values.dtype.kind == "f" and values.ndim == 2:
                    hiss = rng.standard_normal(values.shape) * share * values.std()
                    changed = (values + hiss).astype(values.dtype)
                    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))

        rewrite(gated, graph, shake)
        assert [name for name in off(gated) if name != ANSWER] == wanted


def test_an_answer_that_departs_where_it_was_clear_is_off(gated: Path) -> None:
    golden = Golden(gated / "golden.npz")
    answer = golden.meta.answer
    assert answer is not None
    arrays = {key: value for key, value in golden._arrays.items() if key != "meta"}
    other = (answer.token_ids[0] + 1, *answer.token_ids[1:])
    for margin, wanted in ((9.0, [ANSWER]), (0.01, [])):
        changed = msgspec.structs.replace(answer, token_ids=other, margins=(margin,) * len(other))
        meta = msgspec.structs.replace(golden.meta, answer=changed)
        replace(gated, "golden.npz", golden_bytes(arrays, meta))
        assert off(gated) == wanted, margin


def test_a_golden_file_must_name_its_limits_once(gated: Path) -> None:
    golden = Golden(gated / "golden.npz")
    arrays = {key: value for key, value in golden._arrays.items() if key != "meta"}
    for limits, losses in ((None, None), (Limits(tensors=0.1, masks=0.1, logits=0.1), LOSSES)):
        meta = msgspec.structs.replace(golden.meta, limits=limits, losses=losses)
        replace(gated, "golden.npz", golden_bytes(arrays, meta))
        with pytest.raises(IntegrityError, match="limits"):
            verify(Bundle.open(gated))


def test_entries_of_another_size_are_damage(gated: Path) -> None:
    golden = Golden(gated / "golden.npz")
    arrays = {key: value for key, value in golden._arrays.items() if key != "meta"}
    arrays["image_encoder/image_embed"] = arrays["image_encoder/image_embed"][:-1]
    replace(gated, "golden.npz", golden_bytes(arrays, golden.meta))
    with pytest.raises(IntegrityError, match="image_embed"):
        verify(Bundle.open(gated))


def test_graphs_that_are_off_are_named_in_the_error(gated: Path) -> None:
    zero(gated, "perceiver")
    with pytest.raises(QualityError, match="perceiver"):
        require_ok(verify(Bundle.open(gated), threads=1))
