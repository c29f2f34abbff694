"""An engine's name as a contract test's parameter, what it needs on this machine being there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_tensorrt import install

from pam_edge.bundle import Bundle

Made = Callable[[str], Bundle]


def ready(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, made: Made) -> str:
    """The fixture's parameter. `made` makes an engine's bundle, once."""
    engine: str = request.param
    if engine == "tensorrt":
        install(monkeypatch)
    if engine == "coreml":
        made("coreml")  # by coremltools itself, before a stand-in takes its place
        request.getfixturevalue("mac")
    return engine
