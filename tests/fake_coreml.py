"""coremltools' MLModel and MLState as they are on a Mac, over the evaluator: same calls, same complaints."""

from __future__ import annotations

import importlib
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import coremltools as ct
import numpy as np
import pytest
from mil_evaluator import Evaluated

# Of the engine; the second holds what it imported from the first.
_MODULES = ("pam_edge.runtimes.coreml.session", "pam_edge.runtimes.coreml.engine")


def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The engine's file as a Mac imports it, MLModel being the stand-in."""
    for name in _MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    with monkeypatch.context() as here:
        here.setattr(platform, "system", lambda: "Darwin")
        found = importlib.import_module("pam_edge.runtimes.coreml.session")
    monkeypatch.setattr(ct.models, "MLModel", FakeModel)
    FakeModel.held.clear()
    return found


def away() -> None:
    """The engine is not here any more."""
    for name in _MODULES:
        sys.modules.pop(name, None)
    FakeModel.held.clear()


class FakeState:
    """MLState: buffers of its own, read and written whole, by name."""

    def __init__(self, buffers: dict[str, np.ndarray]) -> None:
        self.buffers = buffers

    def read_state(self, name: str) -> np.ndarray:
        if name not in self.buffers:
            raise RuntimeError(f"Invalid state name: {name}")
        return self.buffers[name].copy()

    def write_state(self, name: str, value: np.ndarray) -> None:
        if name not in self.buffers or self.buffers[name].shape != value.shape:
            raise RuntimeError(f"Invalid value for state {name}")
        self.buffers[name][...] = value


class FakeModel:
    """MLModel, opened at one function; the file is read once for all of them."""

    held: ClassVar[dict[str, Evaluated]] = {}

    def __init__(self, model: str, *, compute_units: Any = None, function_name: str | None = None) -> None:
        if model not in self.held:
            self.held[model] = Evaluated(Path(model))
        self.evaluated = self.held[model]
        self.compute_units, self.function = compute_units, function_name
        functions = {f.name for f in self.evaluated.spec.description.functions}
        if function_name is not None and function_name not in functions:
            raise ValueError(f"function_name {function_name} not found in the model.")
        self.calls = 0

    def get_spec(self) -> Any:
        return self.evaluated.spec

    def make_state(self) -> FakeState:
        return FakeState(self.evaluated.new_state(self.function or "main"))

    def predict(self, data: dict[str, np.ndarray], state: FakeState | None = None) -> dict[str, np.ndarray]:
        self.calls += 1
        inputs = self.evaluated.functions[self.function or "main"].inputs
        states = set(self.evaluated.new_state(self.function or "main"))
        if set(data) != set(inputs) - states:
            raise RuntimeError(f"Provided keys {sorted(data)} do not match {sorted(set(inputs) - states)}")
        if bool(states) != (state is not None):
            raise RuntimeError("a stateful model takes a state, and no other does")
        for value in data.values():
            if value.dtype not in (np.float32, np.int32):
                raise RuntimeError(f"unsupported dtype {value.dtype}")
        return self.evaluated.run(
            data, function=self.function or "main", state=state.buffers if state is not None else None
        )
