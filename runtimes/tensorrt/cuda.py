"""The parts of the CUDA driver API that running engines needs: memory, copies, a stream, a recorded graph.

Calls the driver's library by ctypes, so no package is needed. Knows no engine and no model.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy.typing as npt

from pam_edge.core.errors import EnvironmentProblem, WontFitError

_OUT_OF_MEMORY = 2
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_DEVICE_MEMORY = 2  # CU_MEMORYTYPE_DEVICE
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED
Array = npt.NDArray[Any]


class Device(NamedTuple):
    """What engines are tied to."""

    gpu: str  # name and compute capability
    driver: str


class _Copy2D(ctypes.Structure):
    """CUDA_MEMCPY2D."""

    _fields_ = (
        ("srcXInBytes", ctypes.c_size_t),
        ("srcY", ctypes.c_size_t),
        ("srcMemoryType", ctypes.c_int),
        ("srcHost", ctypes.c_void_p),
        ("srcDevice", ctypes.c_uint64),
        ("srcArray", ctypes.c_void_p),
        ("srcPitch", ctypes.c_size_t),
        ("dstXInBytes", ctypes.c_size_t),
        ("dstY", ctypes.c_size_t),
        ("dstMemoryType", ctypes.c_int),
        ("dstHost", ctypes.c_void_p),
        ("dstDevice", ctypes.c_uint64),
        ("dstArray", ctypes.c_void_p),
        ("dstPitch", ctypes.c_size_t),
        ("WidthInBytes", ctypes.c_size_t),
        ("Height", ctypes.c_size_t),
    )


@cache
def library() -> Any:
    """The driver's library, its first GPU taken. Raises EnvironmentProblem where there is none."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(name)
    except OSError as e:
        raise EnvironmentProblem(f"no NVIDIA driver here ({name} cannot be loaded): {e}") from e
    if (code := cuda.cuInit(0)) != 0:
        raise EnvironmentProblem(f"the NVIDIA driver finds no GPU (cuInit gave {code})")
    gpu, context = ctypes.c_int(), ctypes.c_void_p()
    _check(cuda.cuDeviceGet(ctypes.byref(gpu), 0), "cuDeviceGet")
    _check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), gpu), "cuDevicePrimaryCtxRetain")
    _check(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent")
    return cuda


def device() -> Device:
    """The first GPU and its driver. Raises EnvironmentProblem where there is none."""
    cuda = library()
    name, version = ctypes.create_string_buffer(128), ctypes.c_int()
    _check(cuda.cuDeviceGetName(name, 128, 0), "cuDeviceGetName")
    _check(cuda.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
    capability = [ctypes.c_int(), ctypes.c_int()]
    for value, which in zip(capability, (_MAJOR, _MINOR), strict=True):
        _check(cuda.cuDeviceGetAttribute(ctypes.byref(value), which, 0), "cuDeviceGetAttribute")
    major, minor = (value.value for value in capability)
    return Device(
        f"{name.value.decode()} (SM{major}{minor})", f"{version.value // 1000}.{version.value % 1000 // 10}"
    )


@dataclass(eq=False)
class Buffer:
    """Device memory, given back with the object. `address` is for engines."""

    address: int
    bytes: int

    @classmethod
    def of(cls, count: int) -> Buffer:
        """That many bytes, all zero. Raises WontFitError."""
        found = ctypes.c_uint64()
        code = library().cuMemAlloc_v2(ctypes.byref(found), ctypes.c_size_t(max(1, count)))
        if code == _OUT_OF_MEMORY:
            raise WontFitError(
                f"the GPU has no {count / 1e6:.0f} MB left: close other programs, ask for fewer tasks, "
                "or use a smaller scheme or variant"
            )
        _check(code, "cuMemAlloc")
        _check(
            library().cuMemsetD8_v2(found, ctypes.c_ubyte(0), ctypes.c_size_t(max(1, count))), "cuMemsetD8"
        )
        return cls(found.value, count)

    def __del__(self) -> None:
        if self.address and not sys.is_finalizing():
            library().cuMemFree_v2(ctypes.c_uint64(self.address))
            self.address = 0


class Stream:
    """Work in order."""

    def __init__(self) -> None:
        handle = ctypes.c_void_p()
        _check(library().cuStreamCreate(ctypes.byref(handle), 1), "cuStreamCreate")  # 1: waits for no other
        self.handle = int(handle.value or 0)
        self._stream = handle

    def wait(self) -> None:
        """Until all is done. Raises EnvironmentProblem where any of it failed."""
        _check(library().cuStreamSynchronize(self._stream), "cuStreamSynchronize")

    def upload(self, to: Buffer, values: Array) -> None:
        """A contiguous array, which must live until `wait`."""
        pointer = ctypes.c_void_p(values.ctypes.data)
        size = ctypes.c_size_t(values.nbytes)
        _check(
            library().cuMemcpyHtoDAsync_v2(ctypes.c_uint64(to.address), pointer, size, self._stream),
            "copy to GPU",
        )

    def download(self, values: Array, source: Buffer) -> None:
        """Into a contiguous array, whole after `wait`."""
        pointer = ctypes.c_void_p(values.ctypes.data)
        size = ctypes.c_size_t(values.nbytes)
        _check(
            library().cuMemcpyDtoHAsync_v2(pointer, ctypes.c_uint64(source.address), size, self._stream),
            "copy from GPU",
        )

    def copy_rows(
        self, to: int, to_pitch: int, source: int, source_pitch: int, *, width: int, rows: int
    ) -> None:
        """`rows` pieces of `width` bytes from one place of the device to another; pitches in bytes."""
        what = _Copy2D(
            srcMemoryType=_DEVICE_MEMORY,
            srcDevice=source,
            srcPitch=source_pitch,
            dstMemoryType=_DEVICE_MEMORY,
            dstDevice=to,
            dstPitch=to_pitch,
            WidthInBytes=width,
            Height=rows,
        )
        _check(library().cuMemcpy2DAsync_v2(ctypes.byref(what), self._stream), "copy on the GPU")

    def record(self, work: Callable[[], None]) -> Graph:
        """What `work` puts on this stream, as one graph to be launched again; it is not run now."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        _check(library().cuStreamBeginCapture_v2(self._stream, _RELAXED), "cuStreamBeginCapture")
        try:
            work()
        finally:
            code = library().cuStreamEndCapture(self._stream, ctypes.byref(graph))
        _check(code, "cuStreamEndCapture")
        _check(
            library().cuGraphInstantiateWithFlags(ctypes.byref(ready), graph, ctypes.c_uint64(0)), "cuGraph"
        )
        library().cuGraphDestroy(graph)
        return Graph(ready, self)


@dataclass(eq=False)
class Graph:
    """Recorded work of a stream."""

    _ready: ctypes.c_void_p
    _stream: Stream

    def launch(self) -> None:
        """Put it on its stream."""
        _check(library().cuGraphLaunch(self._ready, self._stream._stream), "cuGraphLaunch")

    def __del__(self) -> None:
        if not sys.is_finalizing():
            library().cuGraphExecDestroy(self._ready)


def _check(code: int, what: str) -> None:
    if code == _OUT_OF_MEMORY:
        raise WontFitError(f"{what}: the GPU is out of memory; close other programs or use a smaller variant")
    if code != 0:
        raise EnvironmentProblem(
            f"{what} failed with CUDA error {code}; look at the driver with `nvidia-smi`"
        )
