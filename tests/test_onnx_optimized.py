"""An optimized copy answers as the graph does, to the bit, and is never trusted where it is not whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pam_edge.bundle.builtin import BUNDLE
from pam_edge.bundle.bundle import Bundle
from pam_edge.core import user_cache

pytest.importorskip("onnxruntime")

from pam_edge.runtimes.common.registry import open_session
from pam_edge.runtimes.common.session import Array
from pam_edge.runtimes.onnxruntime import optimized_copies

GRAPHS = ("image_encoder", "mask_decoder", "perceiver")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(user_cache.ENV, str(tmp_path / "cache"))
    if optimized_copies._cpu() is None:
        pytest.skip("no copies are kept on a CPU nobody tells of")
    return tmp_path / "cache" / "onnxruntime"


def run(graph: str) -> dict[str, Array]:
    bundle, rng = Bundle.open(BUNDLE, check=False), np.random.default_rng(0)
    feeds = {}
    for spec in bundle.graph(graph).inputs:
        shape = [axis if isinstance(axis, int) else 2 for axis in spec.axes]
        feeds[spec.name] = rng.uniform(0, 1, shape).round(2).astype(spec.dtype)
    return open_session(bundle, graph, threads=1).run(feeds)


def without(monkeypatch: pytest.MonkeyPatch, graph: str) -> dict[str, Array]:
    with monkeypatch.context() as patch:
        patch.setattr(optimized_copies, "MAX_BYTES", 0)
        return run(graph)


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_copy_gives_the_same_bits(root: Path, monkeypatch: pytest.MonkeyPatch, graph: str) -> None:
    wanted = without(monkeypatch, graph)
    assert not root.exists()
    first = run(graph)
    (copy,) = root.glob("*.onnx")
    written = copy.stat().st_mtime_ns
    again = run(graph)
    assert copy.stat().st_mtime_ns == written
    for name, value in wanted.items():
        np.testing.assert_array_equal(first[name], value)
        np.testing.assert_array_equal(again[name], value)


def cut(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes()[:-100])


def flip(copy: Path) -> None:
    raw = bytearray(copy.read_bytes())
    raw[len(raw) // 2] ^= 1
    copy.write_bytes(raw)


def nonsense(copy: Path) -> None:
    """Whole by its digest, but no graph."""
    import hashlib

    copy.write_bytes(hashlib.sha256(b"no graph").digest() + b"no graph")


@pytest.mark.parametrize("spoil", [cut, flip, nonsense])
def test_a_spoilt_copy_is_made_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    wanted = run("perceiver")
    (copy,) = root.glob("*.onnx")
    good = copy.read_bytes()
    spoil(copy)
    found = run("perceiver")
    np.testing.assert_array_equal(found["region_tokens"], wanted["region_tokens"])
    assert [path.read_bytes() for path in root.glob("*.onnx")] == [good]


@pytest.mark.parametrize("change", ["cpu", "engine"])
def test_another_cpu_or_engine_has_its_own(root: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    run("perceiver")
    if change == "cpu":
        monkeypatch.setattr(optimized_copies, "_cpu", lambda: "another")
    else:
        monkeypatch.setattr(
            optimized_copies.ort, "__version__", "99.0"
        )  # older ones are refused on some CPUs
    run("perceiver")
    assert len(list(root.glob("*.onnx"))) == 2


def test_without_a_cache_folder_graphs_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(user_cache.ENV, str(tmp_path / "file" / "cache"))
    assert run("perceiver")["region_tokens"].size


def test_the_oldest_copies_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimized_copies, "_KEPT", 2)
    for graph in GRAPHS:
        run(graph)
    assert len(list(root.glob("*.onnx"))) == 2
