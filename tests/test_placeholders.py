"""Graphs made without their weights: the same bytes, no memory, and nothing baked in that is not there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pam_edge.bundle.config import NANO
from pam_edge.bundle.manifest import TensorSpec, Weights
from pam_edge.core.errors import IntegrityError
from pam_edge.export.backends.onnxruntime.graphs import module2onnx
from pam_edge.export.checkpoint import placeholders
from pam_edge.export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from pam_edge.export.checkpoint.placeholders import Placeholders
from pam_edge.export.checkpoint.tokenizer_files import standin_tokenizer
from pam_edge.export.checkpoint.weight_files import Entry
from pam_edge.export.driver.parts import Part
from pam_edge.export.graphs.image_graphs import StatelessName, graph_specs
from pam_edge.quantize.schemes import scheme_named

MIB = 1 << 20
WIDTH = 6144  # a layer of 144 MiB
X = (TensorSpec(name="x", dtype="float32", axes=(1, WIDTH)),)
Y = (TensorSpec(name="y", dtype="float32", axes=(1, WIDTH)),)


def checkpoint(read: Callable[[str], None] = lambda key: None) -> Checkpoint:
    """Three layers that are made when they are read, each of one number; `read` hears of it."""

    def rows(key: str) -> Callable[[int, int], Tensor]:
        def made(start: int, stop: int) -> Tensor:
            read(key)
            return torch.full((stop - start, WIDTH), 1.0 + int(key[0]))

        return made

    entries = {f"{i}.weight": Entry((WIDTH, WIDTH), rows(f"{i}.weight")) for i in range(3)}
    return Checkpoint(
        NANO,
        entries,
        weights=Weights(kind="random", source="drawn"),
        tokenizer=standin_tokenizer(["x"], size=300),
        stop_ids=(),
    )


class Layers(nn.Module):
    """Products with three weights, the second of them transposed."""

    def __init__(self, held: Checkpoint) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(held.tensor(f"{i}.weight"), requires_grad=False) for i in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weights[0] @ self.weights[1].T @ self.weights[2]


class Computed(Layers):
    """The same with a product of weights, made while the module is."""

    def __init__(self, held: Checkpoint) -> None:
        super().__init__(held)
        self.register_buffer("sum", self.weights[0][:2048, :8] + 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.get_buffer("sum").sum()


def resident() -> int:
    """Bytes of this process that are in memory."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scheme"), [("image_encoder", "fp32"), ("perceiver", "fp16")])
def test_the_same_bytes_as_with_the_weights(
    name: StatelessName, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placeholders, "LARGE", 2048)  # nano's weights are small
    part, given = Part(name, open_checkpoint("random:nano")), scheme_named(scheme)
    for folder in ("with", "without"):
        (tmp_path / folder).mkdir()
    signature, file = graph_specs(NANO, name), f"{name}.onnx"
    module2onnx(part.module(), *signature, tmp_path / "with" / file, scheme=given)
    hollow, held = part.hollow()
    module2onnx(hollow, *signature, tmp_path / "without" / file, scheme=given, placeholders=held)
    assert (tmp_path / "with" / file).read_bytes() == (tmp_path / "without" / file).read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_weights_are_read_when_they_are_written_and_let_go_of(tmp_path: Path) -> None:
    reads: list[tuple[str, int]] = []
    module2onnx(nn.Linear(2, 2), *(_small(n) for n in "xy"), tmp_path / "first.onnx")  # what loading takes
    before = resident()
    held = Placeholders(checkpoint(lambda key: reads.append((key, resident()))))
    module = Layers(held.checkpoint)
    assert [bool(torch.isnan(w[0, 0])) for w in module.weights] == [True] * 3
    files = module2onnx(module, X, Y, tmp_path / "layers.onnx", placeholders=held)
    assert sorted(key for key, _ in reads) == ["0.weight", "1.weight", "2.weight"]
    assert files[1].stat().st_size == 3 * WIDTH * WIDTH * 4
    # The exporter itself took up to 75 MiB, more or less with what ran before; one layer would show.
    assert reads[0][1] - before < 128 * MIB, (
        "432 MiB of weights, and none of them there while the graph is made"
    )
    assert resident() - before < 128 * MIB, "nor after it"
    values = np.memmap(files[1], np.float32, "r")
    assert sorted(set(values[:: WIDTH * 8].tolist())) == [1, 2, 3]


def _small(name: str) -> tuple[TensorSpec, ...]:
    return (TensorSpec(name=name, dtype="float32", axes=(1, 2)),)


def test_a_view_of_a_weight_is_the_same_view_of_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order of axes included: every value differs."""
    import onnx_ir as ir

    monkeypatch.setattr(placeholders, "LARGE", 2048)
    real = open_checkpoint("random:nano")
    key = "language.layers.0.mlp.up_proj.weight"
    held = Placeholders(real)
    standin, weight = held.checkpoint.tensor(key).numpy(), real.tensor(key).numpy()
    assert np.isnan(standin).all()
    views = {"whole": lambda x: x, "turned": lambda x: x.T, "part": lambda x: x[3:7, 1::2]}
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 20]>
        graph (float[2] x) => (float[2] y) { y = Sum(x, whole, turned, part) }""",
        initializers=[ir.tensor(view(standin), name=name) for name, view in views.items()],
    )
    held.fill(model)
    for name, view in views.items():
        value = model.graph.initializers[name].const_value
        assert value is not None
        assert np.array_equal(value.numpy(), view(weight)), name


def test_what_was_computed_with_an_absent_weight_is_refused(tmp_path: Path) -> None:
    held = Placeholders(checkpoint())
    with pytest.raises(ValueError, match="not there yet"):
        module2onnx(Computed(held.checkpoint), X, Y, tmp_path / "computed.onnx", placeholders=held)
    assert list(tmp_path.iterdir()) == []


def test_small_weights_are_read_at_once() -> None:
    real = open_checkpoint("random:nano")
    held = Placeholders(real).checkpoint
    for key in ("language.norm.weight", "vision.no_mem_embed", "vision.image_encoder.trunk.pos_embed"):
        assert torch.equal(held.tensor(key), real.tensor(key))
        assert torch.equal(held.rows(key, 0, 1), real.rows(key, 0, 1))


def test_no_two_weights_ever_lie_at_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even those that their module has let go of: a constant made later could take the place."""
    monkeypatch.setattr(placeholders, "LARGE", 2048)
    real = open_checkpoint("random:nano")
    held = Placeholders(real)
    keys = [key for key in real.keys() if key.startswith("vision.")]  # noqa: SIM118  (no mapping)
    places = [held.checkpoint.tensor(key).data_ptr() for key in keys if np.prod(real.shape(key)) >= 2048]
    assert len(set(places)) == len(places) > 50


def test_a_small_weight_that_is_no_number_is_named() -> None:
    def nothing(start: int, stop: int) -> Tensor:
        return torch.full((stop - start,), torch.nan)

    real = checkpoint()
    spoilt = Checkpoint(
        NANO,
        {"a.bias": Entry((4,), nothing)},
        weights=real.weights,
        tokenizer=standin_tokenizer(["x"], size=300),
        stop_ids=(),
    )
    with pytest.raises(IntegrityError, match=r"a\.bias"):
        Placeholders(spoilt).checkpoint.tensor("a.bias")
