"""A GPU of host memory and an engine that is ONNX Runtime, so that TensorRT's runtime can be tested anywhere.

Addresses are real addresses, copies real copies: a wrong pitch or offset gives wrong numbers. A recording
keeps the addresses and shapes of the moment, as a CUDA graph does.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
import pytest
from tiny_language import TINY, tiny_manifest, tiny_weights

from pam_edge.bundle.bundle import Bundle, file_ref
from pam_edge.bundle.config import NANO, LanguageConfig
from pam_edge.bundle.manifest import Graph
from pam_edge.export.backends.onnxruntime.decoder import embedding_record
from pam_edge.export.backends.tensorrt.decoder import cached_decoder_specs, language2cached
from pam_edge.export.backends.tensorrt.nodes import computes_in_half
from pam_edge.export.backends.tensorrt.profiles import profiles
from pam_edge.quantize.schemes import FP32, Scheme
from pam_edge.runtimes.tensorrt import call, decoder
from pam_edge.runtimes.tensorrt import session as tensorrt
from pam_edge.runtimes.tensorrt.build import build_engines
from pam_edge.runtimes.tensorrt.compile import Order
from pam_edge.runtimes.tensorrt.engine_files import (
    ENGINES,
    Maker,
    Record,
    engine_path,
    record_path,
    source_of,
)

ORIN = Maker("tensorrt", "10.3.0", "Orin (SM87)", "12.6")


def cached_bundle(folder: Path, scheme: Scheme = FP32, lm: LanguageConfig = TINY) -> Bundle:
    """The tiny decoder as TensorRT gets it, for `tensorrt`."""
    folder.mkdir(exist_ok=True)
    written = language2cached(lm, tiny_weights(lm).__getitem__, folder, scheme=scheme)
    inputs, outputs = cached_decoder_specs(lm, half=computes_in_half(scheme))
    variant = msgspec.structs.replace(NANO, name="tiny", language=lm)
    graph = Graph(
        name="decoder",
        files=tuple(map(file_ref, written)),
        inputs=inputs,
        outputs=outputs,
        profiles=profiles("decoder", variant),
    )
    manifest = tiny_manifest(variant, (graph,), file_ref(written[2]))
    embedding = embedding_record(lm, scheme, file_ref(written[2]))
    return Bundle(folder, msgspec.structs.replace(manifest, runtime="tensorrt", embedding=embedding))


def compiler(
    calls: list[str] | None = None, *, dies_at: str = ""
) -> Callable[[Sequence[str]], subprocess.CompletedProcess[str]]:
    """In place of the compiling process: an engine that says where its ONNX file is."""

    def run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        order, maker = msgspec.json.decode(words[-2], type=Order), msgspec.json.decode(words[-1], type=Maker)
        if calls is not None:
            calls.append(order.graph)
        if order.graph == dies_at:
            return subprocess.CompletedProcess(list(words), -9, "", "")
        bundle = Bundle(Path(order.bundle), _manifests[order.bundle])
        graph = bundle.graph(order.graph)
        (bundle.folder / ENGINES).mkdir(exist_ok=True)
        path = engine_path(bundle, graph.name)
        path.write_text(str(bundle.path(graph.files[0])))
        ref = file_ref(path)
        record = Record(1, graph.name, source_of(graph), maker, ref.bytes, ref.sha256, 0.1)
        record_path(bundle, graph.name).write_bytes(msgspec.json.encode(record))
        return subprocess.CompletedProcess(list(words), 0, msgspec.json.encode(record).decode(), "")

    return run


_manifests: dict[str, Any] = {}


def built(bundle: Bundle, maker: Maker = ORIN) -> Bundle:
    """The bundle with engines of the fake compiler."""
    _manifests[str(bundle.folder)] = bundle.manifest
    build_engines(bundle, maker=maker, run=compiler())
    return bundle


def install(patch: pytest.MonkeyPatch, maker: Maker = ORIN) -> None:
    """Put the fakes where the runtime looks for a GPU and for TensorRT."""
    for module in (call, decoder):
        patch.setattr(module, "Buffer", FakeBuffer)
    for module in (tensorrt, decoder):
        patch.setattr(module, "Stream", FakeStream)
    patch.setattr(call, "maker_here", lambda bundle: maker)
    patch.setattr(call, "package", lambda flavour: _TRT)


class FakeBuffer:
    def __init__(self, count: int) -> None:
        self._held, self.bytes = np.zeros(max(1, count), np.uint8), count
        self.address = self._held.ctypes.data

    @classmethod
    def of(cls, count: int) -> FakeBuffer:
        return cls(count)

    def __del__(self) -> None:
        self._held[:] = 0xFF  # whoever still reads here reads no numbers


class FakeStream:
    recording: list[Callable[[], None]] | None = None
    handle = 7
    launched = 0

    def wait(self) -> None:
        pass

    def upload(self, to: FakeBuffer, values: np.ndarray) -> None:
        assert values.flags.c_contiguous and values.nbytes <= to.bytes
        ctypes.memmove(to.address, values.ctypes.data, values.nbytes)

    def download(self, values: np.ndarray, source: FakeBuffer) -> None:
        assert values.nbytes <= source.bytes
        ctypes.memmove(values.ctypes.data, source.address, values.nbytes)

    def copy_rows(
        self, to: int, to_pitch: int, source: int, source_pitch: int, *, width: int, rows: int
    ) -> None:
        assert width <= to_pitch and width <= source_pitch
        for i in range(rows):
            ctypes.memmove(to + i * to_pitch, source + i * source_pitch, width)

    def record(self, work: Callable[[], None]) -> Any:
        FakeStream.recording = []
        work()
        done, FakeStream.recording = FakeStream.recording, None

        def launch() -> None:
            FakeStream.launched += 1
            for each in done:
                each()

        return SimpleNamespace(launch=launch)


class FakeContext:
    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.profile: int | None = None

    def set_optimization_profile_async(self, profile: int, stream: int) -> None:
        self.profile = profile

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self.shapes[name] = shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        shapes, addresses = dict(self.shapes), dict(self.addresses)

        def work() -> None:
            feeds = {
                arg.name: _view(addresses[arg.name], shapes[arg.name], arg.type)
                for arg in self._session.get_inputs()
            }
            names = [arg.name for arg in self._session.get_outputs()]
            for name, value in zip(names, self._session.run(names, feeds), strict=True):
                value = np.ascontiguousarray(value)
                ctypes.memmove(addresses[name], value.ctypes.data, value.nbytes)

        if FakeStream.recording is None:
            work()
        else:
            FakeStream.recording.append(work)
        return True


class _Runtime:
    def __init__(self, logger: object) -> None:
        pass

    def deserialize_cuda_engine(self, plan: Any) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(bytes(plan).decode(), options, providers=["CPUExecutionProvider"])
        return SimpleNamespace(create_execution_context=lambda: FakeContext(session))


class _Logger:
    ERROR = 1

    def __init__(self, level: int) -> None:
        pass


_TRT = SimpleNamespace(Runtime=_Runtime, Logger=_Logger)
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


def _view(address: int, shape: tuple[int, ...], kind: str) -> np.ndarray:
    dtype = np.dtype(_DTYPES[kind])
    raw = (ctypes.c_uint8 * (int(np.prod(shape)) * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype).reshape(shape)
