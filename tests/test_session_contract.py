"""What every Session promises, asked of each engine that this machine can open or stand in for.

One small module with two inputs, one of them of a free length, and two results, written in each engine's own
format: TensorRT's file runs as it is in ONNX Runtime, and over a GPU of host memory; CoreML's in the
evaluator, every axis fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from engine_here import Made, made_once, plain, ready
from fake_tensorrt import built
from tiny_language import tiny_manifest
from torch import Tensor, nn

from pam_edge.bundle.bundle import Bundle, file_ref
from pam_edge.bundle.config import NANO
from pam_edge.bundle.manifest import Graph, Profile, TensorSpec
from pam_edge.core.errors import UsageError
from pam_edge.export.backends.onnxruntime.graphs import module2onnx
from pam_edge.quantize.schemes import scheme_named
from pam_edge.runtimes.common.registry import open_session
from pam_edge.runtimes.common.session import Session

SESSIONS = ("onnxruntime", "plain", "tensorrt", "executorch", "coreml")
COUNT, MOST, WIDTH = 5, 20, 8
CLOSE, HALF = 1e-5, 5e-3  # of values of order 1, in float32 and in float16
Feeds = dict[str, np.ndarray]


class Pool(nn.Module):
    """Two results of points and a shift."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(2, 16), nn.Linear(16, WIDTH)

    def forward(self, points: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        y = self.second(torch.relu(self.first(points))) + shift
        return y.mean(dim=1), y


def signature(count: int | str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs with so many points."""
    inputs, outputs = (
        tuple(TensorSpec(name=name, dtype="float32", axes=axes) for name, axes in each)
        for each in (
            (("points", (1, count, 2)), ("shift", (WIDTH,))),
            (("mean", (1, WIDTH)), ("each", (1, count, WIDTH))),
        )
    )
    return inputs, outputs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The module for each engine, made when first asked for."""

    def write(engine: str, folder: Path) -> Bundle:
        (inputs, outputs), module = signature("count"), Pool()
        profiles: tuple[Profile, ...] = ()
        match engine:
            case "onnxruntime":
                files = module2onnx(module, inputs, outputs, folder / "pool.onnx")
            case "tensorrt":
                files = module2onnx(module, inputs, outputs, folder / "pool.onnx", standard=True)
                profiles = (Profile(name="any", axes={"count": (1, COUNT, MOST)}),)
            case "executorch":
                from pam_edge.export.backends.executorch.graphs import module2pte

                files = (module2pte(module, inputs, outputs, folder / "pool.pte", most={"count": MOST}),)
            case _:
                from pam_edge.export.backends.coreml.graphs import module2coreml

                inputs, outputs = signature(COUNT)
                package = folder / "pool.mlpackage"
                files = module2coreml(module, inputs, outputs, package, scheme=scheme_named("fp16"))
        refs = tuple(file_ref(path, within=folder) for path in files)
        graph = Graph(name="pool", files=refs, inputs=inputs, outputs=outputs, profiles=profiles)
        manifest = msgspec.structs.replace(tiny_manifest(NANO, (graph,), refs[0]), runtime=engine)
        bundle = Bundle(folder, manifest)
        return built(bundle) if engine == "tensorrt" else bundle

    return made_once(tmp_path_factory, write)


@pytest.fixture(params=SESSIONS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, made: Made) -> str:
    """Which session, what it needs being there."""
    return ready(request, monkeypatch, made)


@pytest.fixture
def session(kind: str, made: Made) -> Session:
    return open_session(plain(made) if kind == "plain" else made(kind), "pool")


def feeds(count: int = COUNT, seed: int = 0) -> Feeds:
    rng = np.random.default_rng([seed, count])
    points = rng.standard_normal((1, count, 2), dtype=np.float32)
    return {"points": points, "shift": rng.standard_normal(WIDTH, dtype=np.float32)}


def check(kind: str, found: Mapping[str, np.ndarray], given: Feeds) -> None:
    """What PyTorch gives, by name, in the types of the manifest."""
    with torch.inference_mode():
        wanted = Pool()(*(torch.from_numpy(given[name].copy()) for name in ("points", "shift")))
    assert list(found) == ["mean", "each"]
    for ours, theirs in zip(found.values(), wanted, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs.numpy(), atol=HALF if kind == "coreml" else CLOSE, rtol=0)


def test_it_answers_like_the_module_by_name(kind: str, session: Session) -> None:
    given = feeds()
    check(kind, session.run(given), given)
    check(kind, session.run(dict(reversed(given.items()))), given)


def test_a_free_axis_is_free(kind: str, session: Session) -> None:
    if kind == "coreml":
        with pytest.raises(UsageError, match="input points must be float32"):
            session.run(feeds(COUNT + 1))
        return
    for count in (1, MOST, 3):
        check(kind, session.run(feeds(count)), feeds(count))


def test_a_call_touches_neither_what_it_is_given_nor_what_was_given_before(
    kind: str, session: Session
) -> None:
    first, second = feeds(), feeds(seed=1)
    found = session.run(first)
    check(kind, session.run(second), second)
    check(kind, found, first)
    np.testing.assert_array_equal(first["points"], feeds()["points"])
    np.testing.assert_array_equal(first["shift"], feeds()["shift"])


def test_feeds_may_be_strided_and_read_only(kind: str, session: Session) -> None:
    given = feeds()
    strided = {name: np.repeat(value, 2, axis=-1)[..., ::2] for name, value in given.items()}
    for value in strided.values():
        value.flags.writeable = False
    check(kind, session.run(strided), given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shift": None}, "lacks input shift"),
        ({"scale": np.zeros(1, np.float32)}, "has no input scale"),
        ({"points": np.zeros((1, COUNT, 2))}, "input points must be float32"),
        ({"points": np.zeros((1, COUNT, 3), np.float32)}, "input points must be float32"),
        ({"points": np.zeros((COUNT, 2), np.float32)}, "input points must be float32"),
        ({"shift": np.zeros(WIDTH + 1, np.float32)}, "input shift must be float32"),
    ],
)
def test_wrong_feeds_are_refused_and_the_session_lives(
    kind: str, session: Session, change: dict[str, np.ndarray | None], words: str
) -> None:
    given = {name: value for name, value in {**feeds(), **change}.items() if value is not None}
    with pytest.raises(UsageError, match=words):
        session.run(given)
    check(kind, session.run(feeds()), feeds())


def test_a_graph_that_the_bundle_has_not_is_named(kind: str, made: Made) -> None:
    bundle = made("tensorrt" if kind == "plain" else kind)
    with pytest.raises(UsageError, match="lake"):
        open_session(bundle, "lake")
