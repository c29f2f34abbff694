"""Engines: built once, resumed, refused elsewhere. No TensorRT is needed: the compiling process is a fake."""

from __future__ import annotations

from pathlib import Path

import fake_tensorrt
import msgspec
import pytest
from command import pam_edge
from fake_tensorrt import ORIN, FakeStream, cached_bundle, compiler, install

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Graph, TensorSpec
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError, WontFitError
from pam_edge.runtimes.common.registry import open_decoder
from pam_edge.runtimes.tensorrt.build import build_engines, maker_here
from pam_edge.runtimes.tensorrt.engine_files import engine_bytes, engine_path, record_path, stale
from pam_edge.runtimes.tensorrt.session import check_profile


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Two graphs of one file."""
    made = cached_bundle(tmp_path / "b")
    (decoder,) = made.manifest.graphs
    graphs = (msgspec.structs.replace(decoder, name="first"), decoder)
    made = Bundle(made.folder, msgspec.structs.replace(made.manifest, graphs=graphs))
    fake_tensorrt._manifests[str(made.folder)] = made.manifest
    return made


def test_a_build_goes_on_where_it_was_killed_and_makes_nothing_twice(bundle: Bundle) -> None:
    calls: list[str] = []
    with pytest.raises(WontFitError, match="decoder was killed"):
        build_engines(bundle, maker=ORIN, run=compiler(calls, dies_at="decoder"))
    assert calls == ["first", "decoder"]
    told: list[tuple[str, float | None]] = []
    made = build_engines(
        bundle, maker=ORIN, run=compiler(calls), report=lambda name, part: told.append((name, part))
    )
    assert [record.graph for record in made] == ["decoder"]
    assert told[0] == ("first", None)
    assert build_engines(bundle, maker=ORIN, run=compiler(calls)) == ()
    assert len(build_engines(bundle, maker=ORIN, run=compiler(calls), force=True)) == 2


@pytest.mark.parametrize("field", ["version", "gpu", "driver"])
def test_an_engine_of_elsewhere_is_refused_and_made_again(bundle: Bundle, field: str) -> None:
    build_engines(bundle, maker=ORIN, run=compiler())
    other = msgspec.structs.replace(ORIN, **{field: "another"})
    with pytest.raises(EnvironmentProblem, match=rf"built for {field} .*another.*pam-edge build"):
        engine_bytes(bundle, "decoder", other)
    assert len(build_engines(bundle, maker=other, run=compiler())) == 2
    assert bytes(engine_bytes(bundle, "decoder", other)) == engine_path(bundle, "decoder").read_bytes()


def test_only_the_version_counts_for_rtx(bundle: Bundle) -> None:
    ahead = msgspec.structs.replace(ORIN, runtime="tensorrt_rtx", gpu="SM89", driver="any")
    build_engines(bundle, maker=ahead, run=compiler())
    assert (
        stale(bundle, "decoder", msgspec.structs.replace(ahead, gpu="RTX 4090 (SM89)", driver="13.0")) is None
    )
    assert "version" in (stale(bundle, "decoder", msgspec.structs.replace(ahead, version="9")) or "")


def test_damage_is_found(bundle: Bundle) -> None:
    build_engines(bundle, maker=ORIN, run=compiler())
    path = engine_path(bundle, "decoder")
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + b"!")
    with pytest.raises(IntegrityError, match="damaged"):
        engine_bytes(bundle, "decoder", ORIN)
    path.write_bytes(raw[:-1])
    assert "cut short" in (stale(bundle, "decoder", ORIN) or "")
    record_path(bundle, "decoder").write_text("{}")
    with pytest.raises(IntegrityError, match="damaged"):
        stale(bundle, "decoder", ORIN)
    record_path(bundle, "decoder").unlink()
    with pytest.raises(EnvironmentProblem, match="no engine was built"):
        engine_bytes(bundle, "decoder", ORIN)


def test_an_engine_of_other_files_is_stale(bundle: Bundle) -> None:
    build_engines(bundle, maker=ORIN, run=compiler())
    graph = bundle.graph("decoder")
    files = (msgspec.structs.replace(graph.files[0], sha256="0" * 64), *graph.files[1:])
    changed = (msgspec.structs.replace(graph, files=files),)
    other = Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, graphs=changed))
    assert "other files" in (stale(other, "decoder", ORIN) or "")


def test_the_step_is_recorded_once_and_launched_while_nothing_moves(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    build_engines(bundle, maker=ORIN, run=compiler())
    decoder = open_decoder(bundle)
    monkeypatch.setattr(FakeStream, "launched", 0)
    for token in (1, 2, 3, 4):
        decoder.step([token])
    assert FakeStream.launched == 3
    rows = decoder.branch(2)  # other buffers: recorded anew
    for tokens in ([1, 2], [3, 4]):
        rows.step(tokens)
    assert FakeStream.launched == 4


def test_extents_outside_the_profile_are_refused() -> None:
    spec = TensorSpec(name="x", dtype="float32", axes=(1, "points"))
    graph = Graph(name="g", files=(), inputs=(spec,), outputs=(spec,))
    (profile,) = fake_tensorrt.profiles("mask_decoder", fake_tensorrt.NANO)
    graph = msgspec.structs.replace(graph, profiles=(profile,))
    check_profile(graph, {"points": 32})
    with pytest.raises(UsageError, match="1 to 32 points, got 33"):
        check_profile(graph, {"points": 33})


def test_what_is_not_here_is_said(bundle: Bundle, exported) -> None:
    with pytest.raises(EnvironmentProblem, match="tensorrt"):
        maker_here(bundle)
    result = pam_edge("build", exported.bundle)
    assert result.code == 2
    assert "needs no engines" in result.err
