"""A finished float bundle becomes a quantized one: smaller, within its limits, resumable, never half-made."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from command import pam_edge, refused
from exported import Exported
from onnx import numpy_helper
from small_bundle import replace

from pam_edge.benchmarks.quality.calibration import samples_for, world_samples
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import MANIFEST
from pam_edge.core import system_info
from pam_edge.core.errors import IntegrityError, UsageError
from pam_edge.export.backends.onnxruntime.float_weights import DecoderWeights
from pam_edge.export.driver.quantized import QuantizePlan, plan_quantize, quantize_bundle
from pam_edge.export.driver.sensitivity_report import sensitivity_report, to_rows
from pam_edge.export.driver.workspace import STATE
from pam_edge.quantize.calibration import Samples
from pam_edge.quantize.fp16 import store_in_16_bits, store_in_32_bits
from pam_edge.quantize.schemes import Rule, Scheme, scheme_named
from pam_edge.quantize.sensitivity import EVERYTHING, keep_float
from pam_edge.render.tables import columns
from pam_edge.verify.verify import verify


def few() -> Samples:
    return world_samples(count=6)


def settled(scheme: str, source: Path) -> QuantizePlan:
    return plan_quantize(Bundle.open(source), scheme, samples=few)


@pytest.fixture(scope="module")
def int8(float_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nano at int8: do not write into it."""
    folder = tmp_path_factory.mktemp("quantized") / "int8"
    quantize_bundle(settled("int8", float_nano), folder)
    return folder


def off(folder: Path) -> list[str]:
    checks = verify(Bundle.open(folder), threads=1).checks
    return list(dict.fromkeys(check.graph for check in checks if not check.ok))


def test_it_is_smaller_and_within_its_limits(float_nano: Path, int8: Path) -> None:
    source, made = Bundle.open(float_nano), Bundle.open(int8)
    assert made.manifest.scheme == "int8"
    assert made.manifest.verification is not None
    assert made.manifest.verification.ok, made.manifest.verification
    for name in ("image_encoder", "perceiver", "perceiver_frame", "decoder"):
        sizes = [sum(ref.bytes for ref in bundle.graph(name).files) for bundle in (source, made)]
        assert sizes[1] < 0.8 * sizes[0], (name, sizes)
    assert sorted(path.name for path in int8.iterdir()) == sorted({MANIFEST, *made.manifest.files()})


@pytest.mark.parametrize("graph", ["image_encoder", "perceiver", "perceiver_frame"])
def test_a_zeroed_scale_is_blamed_on_its_graph(int8: Path, tmp_path: Path, graph: str) -> None:
    """Of the first layer with 8-bit integers: nothing passes it any more."""
    folder = tmp_path / "spoilt"
    shutil.copytree(int8, folder)
    model = onnx.load(folder / f"{graph}.onnx")
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    node = next(node for node in model.graph.node if node.op_type == "MatMulIntegerToFloat")
    scale = held[node.input[3]]
    scale.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(scale), scale.name))
    replace(folder, f"{graph}.onnx", model.SerializeToString())
    assert off(folder)[0] == graph
    assert set(off(folder)) <= {graph, "answer"}


def test_zeroed_scales_of_the_decoder_are_blamed_on_it(int8: Path, tmp_path: Path) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(int8, folder)
    model = onnx.load(folder / "decoder.onnx", load_external_data=False)
    (scales,) = (
        t for t in model.graph.initializer if t.name.endswith("layers.1.mlp.down_proj.weight.scales")
    )
    place = {item.key: item.value for item in scales.external_data}
    raw = bytearray((folder / place["location"]).read_bytes())
    offset, length = int(place["offset"]), int(place["length"])
    raw[offset : offset + length] = bytes(length)
    replace(folder, place["location"], bytes(raw))
    assert off(folder)[0] == "decoder"
    assert set(off(folder)) <= {"decoder", "answer"}


def test_stopped_in_the_middle_it_ends_with_the_same_bytes(
    float_nano: Path, int8: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"

    def stop(name: str, part: float | None) -> None:
        if name == "perceiver" and part and part > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_bundle(settled("int8", float_nano), folder, report=stop)
    assert (folder / STATE).exists()
    assert not (folder / MANIFEST).exists()
    kept: list[str] = []
    quantize_bundle(
        settled("int8", float_nano),
        folder,
        report=lambda name, part: kept.append(name) if part is None else None,
    )
    assert kept == ["rest", "image_encoder", "mask_decoder"]
    assert digests(folder) == digests(int8)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_what_cannot_be_quantized_is_refused_in_time(float_nano: Path, int8: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(pam_edge("quantize", "nano", "--scheme", "int8", "-o", out), 2, "int4 already")
    refused(pam_edge("quantize", int8, "--scheme", "int4", "-o", out), 2, "int8 already")
    refused(pam_edge("quantize", float_nano, "--scheme", "fp32", "-o", out), 2, "quantizes nothing")
    refused(pam_edge("quantize", float_nano, "--scheme", "int1", "-o", out), 2, "int1")
    refused(pam_edge("quantize", float_nano, "--scheme", "int8", "--json", "-o", out), 2, "--report")
    refused(
        pam_edge("quantize", float_nano, "--scheme", "int8", "--calibrate", tmp_path / "none", "-o", out),
        *(2, "pictures"),
    )
    refused(pam_edge("quantize", float_nano, "--scheme", "int8", "-o", float_nano), 2, "itself")
    assert not out.exists()


def test_what_it_takes_is_told_and_what_does_not_fit_is_refused(
    float_nano: Path, int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = settled("int8", float_nano).needs
    size = Bundle.open(int8).total_bytes
    assert size <= needs.disk <= size + 50e6
    assert 0.3e9 < needs.peak < 1e9
    monkeypatch.setattr(system_info, "available_memory", lambda: 10**8)
    words = ("quantize", float_nano, "--scheme", "int8", "--calibrate", "world", "-o", tmp_path / "out")
    refused(pam_edge(*words), 7, "100.0 MB are free")
    assert not (tmp_path / "out").exists()


def test_samples_have_a_default_where_one_makes_sense() -> None:
    size = 64
    assert "world" in samples_for(None, variant="nano", random=False, image_size=size).about
    assert "random" in samples_for(None, variant="pam-3b", random=True, image_size=size).about
    with pytest.raises(UsageError, match="--calibrate"):
        samples_for(None, variant="pam-3b", random=False, image_size=size)


def test_weights_read_back_are_the_weights_written(exported: Exported) -> None:
    """fp32 and random, so that any mix-up of names or layouts shows."""
    from pam_edge.export.checkpoint.checkpoint import open_checkpoint

    read, checkpoint = DecoderWeights(Bundle.open(exported.bundle)), open_checkpoint("random:nano")
    keys = [key for key in checkpoint.keys() if key.startswith("language.")]  # noqa: SIM118  (no mapping)
    assert len(keys) > 40
    for key in keys:
        whole, rows = read(key), slice(3, 9)
        assert whole.shape == checkpoint.shape(key)
        assert np.array_equal(whole[:], checkpoint.tensor(key).numpy()), key
        assert np.array_equal(whole[rows], checkpoint.tensor(key).numpy()[rows]), key
    with pytest.raises(IntegrityError, match=r"layers\.9"):
        read("language.layers.9.mlp.up_proj.weight")


def test_a_quantized_decoder_is_not_read_as_floats(int8: Path) -> None:
    with pytest.raises(IntegrityError, match="float"):
        DecoderWeights(Bundle.open(int8))


def test_16_bits_are_widened_to_what_they_say() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 48)).astype(np.float16).astype(np.float32)
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 20]>
        graph (float[n, 64] x) => (float[n, 48] y) { y = MatMul(x, weight) }""",
        initializers=[ir.tensor(weight, name="weight")],
    )
    scheme = scheme_named("fp16")
    store_in_16_bits(model, lambda name, shape: scheme.storage("perceiver", name, shape))
    assert [node.op_type for node in model.graph] == ["Cast", "MatMul"]
    store_in_32_bits(model)
    assert [node.op_type for node in model.graph] == ["MatMul"]
    (held,) = model.graph.initializers.values()
    assert held.const_value is not None
    assert np.array_equal(held.const_value.numpy(), weight)
    assert model.graph[0].inputs[1] is held


def test_the_report_tells_every_part_and_marks_what_suffers(
    float_nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the largest layers of the perceiver and on the decoder: fewer parts than a scheme's, to be quick."""
    rules = (
        Rule("q4", graph="decoder", tensor="language.layers.*", dimensions=2),
        Rule("w8a8", graph="perceiver", dimensions=2, elements=20_000),
    )
    plan = dataclasses.replace(settled("int4", float_nano), scheme=Scheme("few", "", rules))
    limit = 2.5e-3  # of what a part may do alone
    monkeypatch.setattr(
        "pam_edge.export.driver.sensitivity_report.keep_float", partial(keep_float, limit=limit)
    )
    found = sensitivity_report(plan, tmp_path)
    vision = [row for row in found if row.graph == "perceiver"]
    assert len(vision) > 4
    assert vision[-1].part == EVERYTHING
    assert all(0 < row.noise < 0.1 and row.of == "outputs" for row in vision)
    assert {row.sensitive for row in vision[:-1]} == {False, True}
    assert all(row.sensitive == (row.noise > limit) for row in vision[:-1])
    layers = [row for row in found if row.graph == "decoder"]
    assert [row.part for row in layers] == [f"layers.{i}" for i in range(4)]
    assert all(0.05 < row.noise < 0.15 and row.storage == "q4" for row in layers)
    text = columns(to_rows(found))
    assert text.splitlines()[0].split()[:4] == ["graph", "part", "storage", "weights"]
