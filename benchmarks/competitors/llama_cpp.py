"""llama.cpp as a worker: its own shared libraries, called through its C interface.

    python -m pam_edge.benchmarks.competitors.llama_cpp LIBRARIES MODEL.gguf THREADS POSITIONS

Every setting is llama.cpp's default but the number of threads and the length of the context. Its functions
take and return structures by value; only the first three fields of one are written here, and read back
through its functions, so a release with another layout fails instead of being measured wrongly.
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path

import numpy as np

from pam_edge.benchmarks.competitors.requests import Decode, Load
from pam_edge.benchmarks.harness.messages import Iteration, Versions
from pam_edge.benchmarks.harness.worker import serve
from pam_edge.core.errors import EnvironmentProblem

_ROOM = 1024  # bytes, more than any of its structures takes


class _Params(ctypes.Structure):
    """A structure of parameters, opaque after its first fields; larger than 16 bytes, so passed in memory."""

    _fields_ = (("n_ctx", ctypes.c_uint32), ("n_batch", ctypes.c_uint32), ("rest", ctypes.c_uint8 * _ROOM))


class _Batch(ctypes.Structure):
    _fields_ = (("n_tokens", ctypes.c_int32), ("pointers", ctypes.c_void_p * 6))


class LlamaCpp:
    """A model in memory with an empty cache."""

    def __init__(self, libraries: Path, model: Path, *, threads: int, positions: int) -> None:
        (base,), (library,) = libraries.glob("libggml.v*.so"), libraries.glob("libllama.v*.so")
        ggml = ctypes.CDLL(str(base), mode=ctypes.RTLD_GLOBAL)
        ggml.ggml_backend_load_all_from_path(str(libraries).encode())
        self._lib = lib = ctypes.CDLL(str(library))
        lib.llama_model_default_params.restype = _Params
        lib.llama_context_default_params.restype = _Params
        lib.llama_model_load_from_file.argtypes = (ctypes.c_char_p, _Params)
        lib.llama_model_load_from_file.restype = ctypes.c_void_p
        lib.llama_init_from_model.argtypes = (ctypes.c_void_p, _Params)
        lib.llama_init_from_model.restype = ctypes.c_void_p
        lib.llama_get_memory.argtypes, lib.llama_get_memory.restype = (ctypes.c_void_p,), ctypes.c_void_p
        lib.llama_memory_clear.argtypes = (ctypes.c_void_p, ctypes.c_bool)
        lib.llama_batch_get_one.argtypes = (ctypes.c_void_p, ctypes.c_int32)
        lib.llama_batch_get_one.restype = _Batch
        lib.llama_decode.argtypes = (ctypes.c_void_p, _Batch)
        lib.llama_get_logits_ith.argtypes = (ctypes.c_void_p, ctypes.c_int32)
        lib.llama_get_logits_ith.restype = ctypes.POINTER(ctypes.c_float)
        lib.llama_set_n_threads.argtypes = (ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)
        lib.llama_print_system_info.restype = ctypes.c_char_p
        lib.llama_model_get_vocab.argtypes, lib.llama_model_get_vocab.restype = (
            (ctypes.c_void_p,),
            ctypes.c_void_p,
        )
        lib.llama_vocab_n_tokens.argtypes = (ctypes.c_void_p,)
        lib.llama_backend_init()
        held = lib.llama_model_load_from_file(str(model).encode(), lib.llama_model_default_params())
        if not held:
            raise EnvironmentProblem(f"llama.cpp refuses {model}")
        self.vocabulary = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(held)))
        params = lib.llama_context_default_params()
        # One call takes the whole prompt; inside, it goes through in its own default pieces.
        params.n_ctx, params.n_batch = positions, positions
        self._context = lib.llama_init_from_model(held, params)
        if not self._context:
            raise EnvironmentProblem("llama.cpp makes no context")
        for name in ("llama_n_ctx", "llama_n_batch"):
            function = getattr(lib, name)
            function.argtypes, function.restype = (ctypes.c_void_p,), ctypes.c_uint32
            if not positions <= function(self._context) <= positions + 1024:
                raise EnvironmentProblem(f"llama.cpp's parameters have another layout ({name})")
        lib.llama_set_n_threads(self._context, threads, threads)

    @property
    def system(self) -> str:
        """What it says of itself: the instructions its kernels use, and whether weights are repacked."""
        return str(self._lib.llama_print_system_info().decode()).strip()

    def forget(self) -> None:
        """Empty the cache."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)

    def run(self, tokens: list[int]) -> int:
        """Append tokens; the likeliest next one."""
        ids = (ctypes.c_int32 * len(tokens))(*tokens)
        batch = self._lib.llama_batch_get_one(ids, len(tokens))
        if code := self._lib.llama_decode(self._context, batch):
            raise EnvironmentProblem(f"llama_decode failed with {code}")
        logits = self._lib.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, (self.vocabulary,)).argmax())


def main(argv: list[str]) -> None:
    """Serve rounds of one prompt and the tokens after it."""
    libraries, model, threads, positions = Path(argv[0]), Path(argv[1]), int(argv[2]), int(argv[3])
    held: list[LlamaCpp] = []

    def load(_: Load) -> Versions:
        held.append(LlamaCpp(libraries, model, threads=threads, positions=positions))
        return {"system": held[0].system}

    def decode(asked: Decode) -> Iteration:
        engine = held[0]
        engine.forget()
        clock = time.perf_counter_ns()
        token = engine.run(list(asked.tokens))
        read = time.perf_counter_ns()
        for _ in range(asked.steps):
            token = engine.run([token])
        found = Iteration()
        found.add("prefill", read - clock)
        found.add("decode", time.perf_counter_ns() - read)
        return found

    serve({Load: load, Decode: decode})


if __name__ == "__main__":
    main(sys.argv[1:])
