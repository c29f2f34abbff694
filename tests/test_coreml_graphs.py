"""Each stateless graph's CoreML package, read back and evaluated, against our module in PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("coremltools")

from fake_coreml import on_a_mac
from mil_evaluator import Evaluated

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import Variant
from pam_edge.core.errors import EnvironmentProblem, UsageError
from pam_edge.export.backends.coreml.graphs import module2coreml
from pam_edge.export.backends.coreml.writer import POINTS, specs
from pam_edge.export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from pam_edge.export.driver.build import build, plan
from pam_edge.export.driver.parts import Part
from pam_edge.export.graphs.image_graphs import STATELESS, StatelessName, graph_specs
from pam_edge.quantize.schemes import Rule, Scheme, scheme_named
from pam_edge.render.tables import export_table
from pam_edge.verify.verify import verify

WEIGHTS = "random:nano"
FP16, INT8 = scheme_named("fp16"), scheme_named("int8")
CLOSE = 0.02  # of a tensor's largest value, at least 1
MASKS = 0.02
# Arithmetic in float16 on static shapes. What is known to leave the Neural Engine (gather, dilated
# convolution, recurrence, custom layers: github.com/hollance/neural-engine, docs/unsupported-layers.md) is
# not among them, nor anything in integers or with a choice. Which of them a device keeps there, only its
# compute plan tells. The same list stands in docs/engines.md.
NEURAL_ENGINE = {
    *("conv", "linear", "matmul", "scaled_dot_product_attention", "layer_norm", "gelu", "max_pool"),
    *("add", "mul", "reshape", "transpose", "split", "slice_by_index", "upsample_nearest_neighbor", "pad"),
    "cast",  # at the border: inputs and outputs are float32
}
LARGEST_AXIS = 16384  # of a tensor there, as is commonly reported


def feeds(variant: Variant, name: StatelessName) -> dict[str, np.ndarray]:
    """Plausible inputs with every slot that the graph has, most of them empty and full of rubbish."""
    rng, found = np.random.default_rng(7), {}
    for spec in specs(variant, name, FP16)[0]:
        found[spec.name] = rng.standard_normal(spec.axes).astype(np.float32)
    for flag in ("no_memory", "prompted"):
        if flag in found:
            found[flag][:] = 1
    if name == "mask_decoder":
        size = variant.vision.image_size
        found["point_coords"] = rng.uniform(0, size, (1, POINTS, 2)).astype(np.float32)
        found["point_labels"] = np.array([[2, 3, 1, 0, *[-2] * (POINTS - 4)]], np.float32)
        found["has_mask"][:] = 0
    for value, place in (("memory", "age"), ("pointer", "time")):
        if f"{value}_valid" in found:
            valid = np.zeros_like(found[f"{value}_valid"])
            valid[0, :2] = 1
            found[f"{value}_valid"] = valid
            found[f"{value}_{place}"] = (valid * (3 if place == "age" else 0.2)).astype(np.float32)
    return found


def wanted(
    checkpoint: Checkpoint, name: StatelessName, given: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    inputs, outputs = graph_specs(checkpoint.variant, name)
    with torch.no_grad():
        found = Part(name, checkpoint).module().eval()(*(torch.from_numpy(given[s.name]) for s in inputs))
    values = (found,) if isinstance(found, torch.Tensor) else found
    return {spec.name: value.numpy() for spec, value in zip(outputs, values, strict=True)}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(WEIGHTS)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Exported for a Mac at fp16."""
    place = tmp_path_factory.mktemp("coreml") / "bundle"
    build(plan(WEIGHTS, target="mac", scheme="fp16"), place)
    return Bundle.open(place)


@pytest.fixture(scope="module")
def packages(bundle: Bundle) -> dict[str, Evaluated]:
    """Every stateless graph at fp16."""
    return {name: Evaluated(bundle.folder / f"{name}.mlpackage") for name in STATELESS}


def package(checkpoint: Checkpoint, name: StatelessName, folder: Path, scheme: Scheme) -> Path:
    path = folder / f"{name}.mlpackage"
    signature = specs(checkpoint.variant, name, scheme)
    module2coreml(Part(name, checkpoint).module(), *signature, path, scheme=scheme)
    return path


def error(found: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(found - right).max() / max(1, np.abs(right).max()))


def test_the_bundle_is_whole_and_says_that_nothing_was_run_here(bundle: Bundle) -> None:
    assert bundle.manifest.verification is None
    shown = export_table(bundle.manifest).splitlines()
    assert shown[: len(STATELESS) + 1] == [
        f"{graph.name:<16}  not run here" for graph in bundle.manifest.graphs
    ]
    assert {graph.files[0].path for graph in bundle.manifest.graphs} == {
        f"{name}.mlpackage/Manifest.json" for name in (*STATELESS, "decoder")
    }
    with pytest.raises(EnvironmentProblem, match="on a Mac"):
        verify(bundle)


def test_verified_as_on_a_mac_every_graph_and_the_answer_are_right(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_mac(monkeypatch)
    try:
        found = verify(bundle)
    finally:
        sys.modules.pop("pam_edge.runtimes.coreml.session", None)
    assert [check for check in found.checks if not check.ok] == []
    assert {check.graph for check in found.checks} >= {*STATELESS, "decoder"}
    assert max(check.worst for check in found.checks) > 1e-6  # float16 is not what PyTorch computed in


@pytest.mark.parametrize("name", STATELESS)
def test_every_graph_answers_like_its_module(
    checkpoint: Checkpoint, packages: dict[str, Evaluated], name: StatelessName
) -> None:
    given = feeds(checkpoint.variant, name)
    found, right = packages[name].run(given), wanted(checkpoint, name, given)
    assert list(found) == list(right)
    for output, value in right.items():
        assert found[output].dtype == np.float32
        assert error(found[output], value) <= (MASKS if output == "masks" else CLOSE), output
        assert value.std() > 1e-3 or value.size == 1, output  # numbers in which an error would show


@pytest.mark.parametrize("name", STATELESS)
def test_its_border_is_what_the_bundle_will_say(
    checkpoint: Checkpoint, packages: dict[str, Evaluated], name: StatelessName
) -> None:
    description = packages[name].spec.description
    for found, signature in zip(
        (description.input, description.output), specs(checkpoint.variant, name, FP16), strict=True
    ):
        held = [(f.name, f.type.multiArrayType.dataType, tuple(f.type.multiArrayType.shape)) for f in found]
        assert held == [(s.name, 65568, s.axes) for s in signature]  # 65568: float32
    assert packages[name].spec.specificationVersion == 9  # iOS 18


def test_the_image_encoder_is_made_for_the_neural_engine(packages: dict[str, Evaluated]) -> None:
    held = packages["image_encoder"]
    assert set(held.operators()) <= NEURAL_ENGINE
    for op in held.functions["main"].operations:
        for var in op.outputs:
            if op.op_type != "const":
                assert var.rank <= 5 and max(var.shape, default=1) <= LARGEST_AXIS, op.name
    convolutions = [op for op in held.functions["main"].operations if op.op_type == "conv"]
    assert all(set(op.dilations.val.tolist()) == {1} for op in convolutions)
    casts = [op for op in held.functions["main"].operations if op.op_type == "cast"]
    assert len(casts) == 4  # one input, three outputs, none in between


def test_attention_is_one_operator_everywhere(packages: dict[str, Evaluated]) -> None:
    for name in ("image_encoder", "mask_decoder", "memory_attention", "perceiver", "perceiver_frame"):
        found = packages[name].operators()
        assert found["scaled_dot_product_attention"] >= 4
        assert "softmax" not in found, name


def test_the_documents_name_every_operator_of_that_list() -> None:
    told = (Path(__file__).parents[1] / "docs" / "engines.md").read_text()
    assert [name for name in NEURAL_ENGINE if f"`{name}`" not in told] == []


def test_empty_slots_have_no_influence(checkpoint: Checkpoint, packages: dict[str, Evaluated]) -> None:
    for name, slot in (
        ("mask_decoder", "point_coords"),
        ("memory_attention", "memory"),
        ("memory_attention", "pointers"),
    ):
        given = feeds(checkpoint.variant, name)
        other = {**given, slot: given[slot].copy()}
        other[slot][:, 4:] = 9.0
        for output, value in packages[name].run(given).items():
            np.testing.assert_array_equal(
                packages[name].run(other)[output], value, err_msg=f"{name}/{output}"
            )
        other[slot][:, 0] = 9.0  # and one that is not empty has
        assert any(np.any(packages[name].run(other)[o] != v) for o, v in packages[name].run(given).items())


def test_places_counts_and_choices_are_made_in_float32(packages: dict[str, Evaluated]) -> None:
    for name, wide in (("mask_decoder", True), ("image_encoder", False)):
        kinds = {
            var.dtype.__name__ for op in packages[name].functions["main"].operations for var in op.outputs
        }
        assert ("fp16" in kinds) is not wide, name


def test_eight_bits_are_smaller_and_close(
    checkpoint: Checkpoint, packages: dict[str, Evaluated], tmp_path: Path
) -> None:
    name: StatelessName = "perceiver"
    path = package(checkpoint, name, tmp_path, INT8)
    given = feeds(checkpoint.variant, name)
    held, right = Evaluated(path), wanted(checkpoint, name, given)["region_tokens"]
    found = held.run(given)["region_tokens"]
    assert held.operators()["constexpr_blockwise_shift_scale"] >= 5
    assert held.operators().keys() - {"constexpr_blockwise_shift_scale"} == packages[name].operators().keys()
    assert error(found, packages[name].run(given)["region_tokens"]) > 1e-4  # it is another file
    assert np.abs(found - right).std() < 0.03 * right.std()


def test_the_same_module_gives_the_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    first, again = (package(checkpoint, "perceiver", tmp_path / n, FP16) for n in ("a", "b"))
    for file in first.rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (again / file.relative_to(first)).read_bytes(), file.name


def test_what_it_has_not_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    module = Part("perceiver", checkpoint).module()
    four = Scheme("four", "", (Rule("q4", dimensions=2, elements=1024),))
    with pytest.raises(UsageError, match="of perceiver as q4, which is not possible there"):
        module2coreml(
            module,
            *specs(checkpoint.variant, "perceiver", four),
            tmp_path / "perceiver.mlpackage",
            scheme=four,
        )
    with pytest.raises(ValueError, match="point_coords must be float32 with fixed extents"):
        module2coreml(
            module,
            *graph_specs(checkpoint.variant, "mask_decoder"),
            tmp_path / "a.mlpackage",
            scheme=FP16,
        )
    assert not list(tmp_path.iterdir())
