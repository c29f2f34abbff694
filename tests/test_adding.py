"""CONTRIBUTING's steps taken: a toy target, engine, scheme, variant and device, used as real ones are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import command
import msgspec
import numpy as np
import pytest
from exported import Exported
from torch import nn

from pam_edge import load, targets
from pam_edge.benchmarks.devices import choose
from pam_edge.benchmarks.devices.choose import KINDS, Kind, open_device
from pam_edge.benchmarks.devices.local import Choice, Device, Local, Tell
from pam_edge.bundle import config
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import NANO, Variant
from pam_edge.bundle.golden import Limits
from pam_edge.core.errors import EnvironmentProblem, UsageError, WontFitError
from pam_edge.export.backends.base import writer_for
from pam_edge.export.backends.executorch.weights import in_8_bits
from pam_edge.export.backends.onnxruntime.static_graphs import stored_graph
from pam_edge.export.checkpoint.checkpoint import open_checkpoint
from pam_edge.export.decoder.onnx_graph import stored_as
from pam_edge.export.driver.build import build, plan
from pam_edge.export.driver.forecast import check_suits
from pam_edge.export.driver.quantized import plan_quantize
from pam_edge.quantize import schemes
from pam_edge.quantize.schemes import STATIC, STORED, Rule, Scheme, Storage
from pam_edge.quantize.static import find_layers
from pam_edge.runtimes.common import registry
from pam_edge.runtimes.common.registry import EngineRecord, check_engine, engine_version, open_session
from pam_edge.targets import Fit, Memory, Target, target_named

VARIANT = Variant(
    name="toy",
    language=msgspec.structs.replace(NANO.language, hidden_size=96, layers=2, heads=3, kv_heads=1, mlp=96),
    vision=msgspec.structs.replace(
        NANO.vision, image_size=128, stages=(1, 1, 1, 1), global_att_blocks=(2,), memory_layers=1
    ),
    perceiver=NANO.perceiver,
    licences=NANO.licences,
)
FLOAT = Fit("fp32", Limits(tensors=1e-4, masks=1e-4, logits=1e-4))
TARGET = Target(
    name="toaster",
    title="a toaster",
    runtime="onnxruntime",
    variant="nano",
    fits=(FLOAT, Fit("thirds", Limits(tensors=1e-2, masks=2e-2, logits=2e-2))),
    note="burns",
    memory=Memory(300_000_000, "its leaflet"),
    aliases=("grill",),
)
ENGINE = EngineRecord(name="toy", opener="toy_engine", writer="toy_writer", packages=("torch",))
ON_TOY = replace(TARGET, name="toy", runtime="toy", aliases=(), memory=None)
# Rules alone: matrices of the language model in 16 bits.
THIRDS = Scheme("thirds", "some of it in 16 bits", (Rule("float16", graph="decoder", dimensions=2),))
# And one with a way of storing that no engine's writer knows.
NEW = cast("Storage", "q3")
THREE = Scheme("int3", "3 bits", (Rule(NEW, dimensions=2),))


@pytest.fixture(scope="module")
def added() -> Iterator[None]:
    """All toys but the device, each in its table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "TARGETS", (*targets.TARGETS, TARGET, ON_TOY))
        patch.setattr(registry, "ENGINES", (*registry.ENGINES, ENGINE))
        patch.setattr(schemes, "SCHEMES", (*schemes.SCHEMES, THIRDS, THREE))
        patch.setattr(config, "VARIANTS", (*config.VARIANTS, VARIANT))
        yield


@pytest.fixture(scope="module")
def toy(added: None, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The toy variant exported for the toy engine."""
    settled = plan("random:toy", target="toy")
    return build(settled, tmp_path_factory.mktemp("toy") / "bundle")


def test_a_target_is_planned_for_and_listed(added: None) -> None:
    settled = plan("random:nano", target="grill", scheme="thirds")
    assert settled.target is target_named("toaster") is TARGET
    assert "a toaster" in settled.needs.text(settled.target)
    check_suits(settled.needs, TARGET)
    assert "toaster" in command.pam_edge("targets").out
    with pytest.raises(UsageError, match=r"target toaster .* has no scheme 'int8'; possible: fp32, thirds"):
        plan("random:nano", target="toaster", scheme="int8")
    with pytest.raises(WontFitError, match=r"leaves a process 300\.0 MB \(its leaflet\)"):
        check_suits(plan("random:pam-1.5b", target="toaster").needs, TARGET)


def test_an_engine_writes_runs_and_verifies_a_bundle(toy: Bundle, photo: Path) -> None:
    assert toy.manifest.runtime == "toy"
    assert toy.manifest.verification is not None and toy.manifest.verification.ok
    assert {check.graph for check in toy.manifest.verification.checks} >= {"image_encoder", "answer"}
    with load(toy.folder) as pam:
        found = pam(photo, point=(100, 75), task="brief", max_tokens=3)
    assert found.mask.shape == (150, 200)
    assert command.pam_edge("verify", toy.folder).code == 0


def test_an_engine_is_known_by_its_record(added: None, monkeypatch: pytest.MonkeyPatch, toy: Bundle) -> None:
    import toy_engine
    import toy_writer

    check_engine("toy")
    assert engine_version("toy") is not None
    assert writer_for("toy") is cast("object", toy_writer)
    assert isinstance(open_session(toy, "perceiver"), toy_engine.ToySession)
    lost = replace(ENGINE, name="toy", writer="toy_lost.writer", packages=("toy-lost",))
    monkeypatch.setattr(registry, "ENGINES", (lost,))
    assert engine_version("toy") is None
    with pytest.raises(EnvironmentProblem, match=r"needs toy_lost: pip install 'pam-edge\[export\]'"):
        writer_for("toy")
    monkeypatch.setattr(registry, "ENGINES", ())
    with pytest.raises(EnvironmentProblem, match="runtime 'toy' is unknown to this version of pam-edge"):
        check_engine("toy")


@pytest.mark.slow
def test_a_scheme_is_rules(added: None, tmp_path: Path) -> None:
    whole, some = (plan("random:toy", target="toaster", scheme=name) for name in ("fp32", "thirds"))
    assert some.needs.device < whole.needs.device
    bundle = build(some, tmp_path / "bundle")
    assert bundle.manifest.scheme == "thirds" and bundle.manifest.embedding.dtype == "float16"
    assert bundle.manifest.verification is not None and bundle.manifest.verification.ok
    read = np.fromfile(bundle.path(bundle.manifest.embedding.file), np.float16)
    wanted = some.checkpoint.tensor("language.embed_tokens.weight")
    assert np.array_equal(read.reshape(wanted.shape), wanted.half().numpy())


@pytest.mark.parametrize("runtime", [record.name for record in registry.ENGINES])
def test_a_storage_that_an_engine_lacks_is_refused(
    added: None, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    asked = replace(TARGET, name="asked", runtime=runtime, fits=(Fit("int3", FLOAT.tolerance),))
    monkeypatch.setattr(targets, "TARGETS", (*targets.TARGETS, asked))
    monkeypatch.setitem(STORED, NEW, 3 / 8)
    with pytest.raises(UsageError, match=f"scheme int3 .* as q3, which bundles for {runtime} cannot"):
        plan("random:nano", target="asked")


def test_a_storage_is_never_another_one_silently(
    added: None, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each function that reads a scheme refuses what it cannot store, whatever was checked before."""
    wanted = "as q3, which is not possible there; possible: float32, float16"
    with pytest.raises(UsageError, match=wanted):
        stored_as(THREE, "language.norm.weight", (4, 4))
    with pytest.raises(UsageError, match=wanted):
        in_8_bits(nn.Linear(4, 4), THREE, "perceiver")
    bundle = Bundle.open(exported.bundle)
    with pytest.raises(UsageError, match=wanted):
        stored_graph(bundle, "perceiver", exported.bundle.parent, THREE)
    with pytest.raises(UsageError, match="possible: float32, float16, w8a8"):
        find_layers(
            bundle.path(bundle.graph("perceiver").files[0]),
            partial(THREE.stored, "perceiver", possible=STATIC),
        )
    losing = Fit("int3", target_named("cpu").tolerance("int4"))
    cpu = replace(target_named("cpu"), fits=(*target_named("cpu").fits, losing))
    monkeypatch.setattr(targets, "TARGETS", (cpu,))
    with pytest.raises(UsageError, match="bundles for onnxruntime cannot"):
        plan_quantize(bundle, "int3", samples=lambda: pytest.fail("it asked for pictures"))


def test_a_variant_is_shapes(added: None, toy: Bundle) -> None:
    assert toy.manifest.variant == VARIANT
    assert open_checkpoint("random:toy").variant is VARIANT
    assert toy.manifest.weights.kind == "random"
    size = VARIANT.vision.image_size
    assert toy.graph("image_encoder").inputs[0].axes == (1, 3, size, size)
    with pytest.raises(UsageError, match=r"unknown variant 'toys'; known: nano, pam-1\.5b, pam-3b, toy"):
        open_checkpoint("random:toys")


def test_a_device_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def opened(address: str, choice: Choice, logs: Path, tell: Tell) -> Device:
        asked.append((address, choice.remote))
        return Local(logs, name=choice.name or "toy")

    monkeypatch.setattr(choose, "KINDS", (*KINDS, Kind("toy", "toy:NUMBER", r"\d+", opened)))
    device = open_device(Choice("toy:7", remote="there"), logs=tmp_path, tell=print)
    assert (device.name, asked) == ("toy", [("7", "there")])
    with device.start() as worker:
        assert worker is not None
    for wrong in ("toy", "toy:seven", "toys:7", "local:7", "ssh", "ssh:", "ssh:-oProxyCommand=x", ""):
        with pytest.raises(UsageError, match=r"write one of: local, .*adb\[:SERIAL\], toy:NUMBER"):
            open_device(Choice(wrong), logs=tmp_path, tell=print)


def test_help_spells_every_kind_of_device() -> None:
    spelled = "|".join(kind.spelling for kind in KINDS)
    assert spelled in command.pam_edge("bench", "run", "--help").out
