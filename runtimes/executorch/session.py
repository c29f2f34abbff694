"""ExecuTorch with XNNPACK: stateless graphs, and the language decoder over a cache in numpy.

The decoder's file holds no state. The decoder owns the cache and passes it by pointer; the engine returns the
entries of each call, which are then written into it. A branch is therefore a copy of arrays, a rewind a
smaller count, and any number of decoders share one loaded program. ExecuTorch's Python runtime takes and
returns torch tensors, so this file imports torch; on a phone the same files run without it. Knows bundles and
this engine, no prompts and no text.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Graph, TensorSpec
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, PamEdgeError, UsageError, WontFitError
from pam_edge.runtimes.common.cached_rows import CachedRows
from pam_edge.runtimes.common.checks import check_embeds, check_feeds, check_room, check_tokens
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.host_cache import HostCache
from pam_edge.runtimes.common.session import Array, Floats
from pam_edge.runtimes.executorch.etdump import Execution, executions

logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # a word on torchao's own enumerations
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all of its Python side calls itself experimental
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Method, Program, Runtime
except ImportError as e:
    raise EnvironmentProblem(f"ExecuTorch cannot be imported ({e}); pip install 'pam-edge[android]'") from e

METHOD = "forward"
_DTYPES = {1: "int8", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 11: "bool", 0: "uint8"}


def check_backend(runtime: str) -> None:
    """Raise EnvironmentProblem where this ExecuTorch lacks what the runtime's files are lowered to."""
    backend = "VulkanBackend" if runtime == "executorch_vulkan" else "XnnpackBackend"
    if not Runtime.get().backend_registry.is_available(backend):
        raise EnvironmentProblem(
            f"ExecuTorch's Python package has no {backend}: run the bundle in an Android app built with it"
        )


class EtSession:
    """`Session` of one graph of a bundle. `threads` 0 lets the engine choose; it has one pool a process.
    `traced`: the engine keeps what each operator took, for `trace`.

    Raises UsageError for a graph the bundle lacks, IntegrityError where the engine refuses its file.
    """

    def __init__(self, bundle: Bundle, graph: str, *, threads: int = 0, traced: bool = False) -> None:
        self._graph = bundle.graph(graph)
        self._loaded = _Loaded(bundle, self._graph, threads, traced=traced)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Named inputs to named outputs.

        Raises UsageError for feeds that are not the graph's inputs, or longer than its file allows.
        """
        check_feeds(self._graph, feeds)
        return self._loaded.run([feeds[spec.name] for spec in self._graph.inputs])

    def trace(self) -> dict[str, tuple[Execution, ...]]:
        """Every call of the graph, under its name. May be asked for once. Raises like `executions`."""
        return {self._graph.name: self._loaded.trace()}


class EtDecoder(CachedRows[HostCache]):
    """`Decoder` of a bundle, with one empty row. Branches share the loaded program and its weights.
    `traced` as in `EtSession`.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0, traced: bool = False) -> None:
        graph = bundle.graph("decoder")
        self.embed = TokenTable.open(bundle)
        self._loaded = _Loaded(bundle, graph, threads, traced=traced)
        self._rows, self._tokens, _ = self._loaded.most("embeds")
        # A cache of so many positions, and one call after it, is all that the file can hold.
        capacity = self._loaded.most("past_valid")[1]
        language = bundle.manifest.variant.language
        self._language = msgspec.structs.replace(language, max_length=min(language.max_length, capacity))
        self._cache = HostCache(self._language, 1, turned=True)

    def prefill(self, embeds: Sequence[Floats]) -> Floats:
        """Append embeddings, row by row, in parts of what the file takes at once; see `Decoder.prefill`."""
        check_embeds(embeds, self.lengths, self._language)
        after = [n + len(array) for n, array in zip(self.lengths, embeds, strict=True)]
        self._cache = self._cache.with_room(max(after))
        logits = np.empty((len(embeds), self._language.vocab_size), dtype=np.float32)
        before = self._cache.lengths
        for row, array in enumerate(embeds):
            for start in range(0, len(array), self._tokens):
                part = array[None, start : start + self._tokens]
                self._run(slice(row, row + 1), part, [before[row] + start], logits)
        self._cache.lengths = after
        return logits

    def step(self, tokens: Sequence[int]) -> Floats:
        """Append one token per row, as many rows in a call as the file takes; see `Decoder.step`."""
        check_tokens(tokens, len(self.lengths))
        embeds = self.embed(tokens)[:, None]
        before = self._cache.lengths
        check_room([n + 1 for n in before], self._language)
        self._cache = self._cache.with_room(max(before) + 1)
        logits = np.empty((len(tokens), self._language.vocab_size), dtype=np.float32)
        for start in range(0, len(tokens), self._rows):
            rows = slice(start, min(start + self._rows, len(tokens)))
            self._run(rows, embeds[rows], before[rows], logits)
        self._cache.lengths = [n + 1 for n in before]
        return logits

    def trace(self) -> dict[str, tuple[Execution, ...]]:
        """Calls of this decoder and its branches, of several positions and of one; see `EtSession.trace`."""
        found: dict[str, tuple[Execution, ...]] = {}
        calls = self._loaded.trace()
        for (_, positions, _), call in zip(self._loaded.fed, calls, strict=True):
            kind = "decoder, prompt" if positions > 1 else "decoder, step"
            found[kind] = (*found.get(kind, ()), call)
        return found

    def _run(self, rows: slice, embeds: Floats, before: Sequence[int], logits: Floats) -> None:
        """Append `embeds` [R, T, H] to `rows` of lengths `before`; their cache and `logits` are written."""
        starts = np.array(before, dtype=np.int64)[:, None]
        count = embeds.shape[1]
        valid = (np.arange(self._cache.capacity) < starts).astype(np.float32)
        feeds = [embeds, starts + np.arange(count), valid, *(array[rows] for array in self._cache.arrays)]
        found = self._loaded.run(feeds)
        logits[rows] = found.pop("logits")
        for i, (cached, new) in enumerate(zip(self._cache.arrays, found.values(), strict=True)):
            for place, (row, length) in enumerate(zip(range(rows.start, rows.stop), before, strict=True)):
                if i % 2:
                    cached[row, :, length : length + count] = new[place]
                else:
                    cached[row, :, :, length : length + count] = new[place]


class _Loaded:
    """A graph's file in the engine, checked against the manifest."""

    def __init__(self, bundle: Bundle, graph: Graph, threads: int, *, traced: bool) -> None:
        if threads < 0:
            raise UsageError(f"threads must be 0 (let the engine choose) or more, got {threads}")
        if threads:
            portable_lib._unsafe_reset_threadpool(threads)
        check_backend(bundle.manifest.runtime)
        self._graph, self._traced = graph, traced
        self.fed: list[tuple[int, ...]] = []  # the first input's extents, of every call that is traced
        path = bundle.path(graph.files[0])
        try:
            self._program: Program = Runtime.get().load_program(path, enable_etdump=traced)
            if METHOD not in self._program.method_names:
                raise IntegrityError(f"{path} has no method {METHOD}; export the bundle again")
            method = self._program.load_method(METHOD)
        except RuntimeError as e:
            raise _translated(e, f"ExecuTorch refuses {path}") from e
        assert method is not None
        self._method: Method = method
        meta = method.metadata
        counts = (meta.num_inputs(), meta.num_outputs())
        if counts != (len(graph.inputs), len(graph.outputs)):
            raise IntegrityError(
                f"{path.name} has {counts[0]} inputs and {counts[1]} outputs, "
                "not those of bundle.json; export again"
            )
        self._most = {
            spec.name: _checked(path.name, spec, meta.input_tensor_meta(i))
            for i, spec in enumerate(graph.inputs)
        }
        for i, spec in enumerate(graph.outputs):
            _checked(path.name, spec, meta.output_tensor_meta(i))

    def most(self, name: str) -> tuple[int, ...]:
        """The largest extents that the file takes of an input."""
        return self._most[name]

    def run(self, values: Sequence[Array]) -> dict[str, Array]:
        """Inputs in order to outputs by name. Raises UsageError where one is larger than the file takes."""
        for spec, value in zip(self._graph.inputs, values, strict=True):
            if any(n > most for n, most in zip(value.shape, self._most[spec.name], strict=True)):
                raise UsageError(
                    f"{self._graph.name}: input {spec.name} is {list(value.shape)} where this bundle takes "
                    f"at most {list(self._most[spec.name])}"
                )
        try:
            found = self._method.execute([_tensor(value) for value in values])
        except RuntimeError as e:
            raise _translated(e, f"graph {self._graph.name} failed") from e
        if self._traced:
            self.fed.append(values[0].shape)
        return {spec.name: value.numpy() for spec, value in zip(self._graph.outputs, found, strict=True)}

    def trace(self) -> tuple[Execution, ...]:
        """What every call took. The engine closes its record when it is read: not to be asked for twice."""
        with tempfile.TemporaryDirectory(prefix="pam-edge-") as place:
            path = Path(place) / "trace.etdp"
            self._program.write_etdump_result_to_file(str(path), "")
            return executions(path.read_bytes()) if path.exists() else ()


def _checked(file: str, spec: TensorSpec, found: Any) -> tuple[int, ...]:
    """The extents of a tensor in the file, which must be what the manifest says, free axes at their most."""
    sizes, dtype = tuple(found.sizes()), _DTYPES.get(found.dtype(), "unknown")
    fits = dtype == spec.dtype and len(sizes) == len(spec.axes)
    if not fits or any(isinstance(a, int) and a != n for a, n in zip(spec.axes, sizes, strict=True)):
        raise IntegrityError(
            f"{file}: {spec.name} is {dtype} {list(sizes)} where bundle.json says {spec.dtype} "
            f"{list(spec.axes)}; export again"
        )
    return sizes


def _tensor(value: Array) -> Any:
    """The same memory as a torch tensor; a copy where it is not contiguous, or may not be written to."""
    held = np.ascontiguousarray(value)
    return torch.from_numpy(held if held.flags.writeable else held.copy())


def _translated(e: Exception, what: str) -> PamEdgeError:
    """The engine's exception as one of ours. It knows numbers: 0x21 is "no memory"."""
    words = " ".join(str(e).split())[:300]
    if "0x21" in words:
        return WontFitError(f"{what}: out of memory ({words}); close other programs or use a smaller variant")
    return IntegrityError(f"{what}: {words}; copy or export the bundle again")
