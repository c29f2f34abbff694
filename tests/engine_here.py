"""An engine's name as a contract test's parameter, what it needs on this machine being there."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import pytest
from fake_tensorrt import install

from pam_edge.bundle.bundle import Bundle

Made = Callable[[str], Bundle]


def made_once(factory: pytest.TempPathFactory, write: Callable[[str, Path], Bundle]) -> Made:
    """An engine's bundle, which `write` makes in a folder of its own when it is first asked for."""
    place = factory.mktemp("bundles")

    @cache
    def make(engine: str) -> Bundle:
        folder = place / engine
        folder.mkdir()
        return write(engine, folder)

    return make


def plain(made: Made) -> Bundle:
    """TensorRT's files, for ONNX Runtime to open."""
    bundle = made("tensorrt")
    return Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, runtime="onnxruntime"))


def ready(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, made: Made) -> str:
    """The fixture's parameter. `made` makes an engine's bundle, once."""
    engine: str = request.param
    if engine == "tensorrt":
        install(monkeypatch)
    if engine == "coreml":
        made("coreml")  # by coremltools itself, before a stand-in takes its place
        request.getfixturevalue("mac")
    return engine
