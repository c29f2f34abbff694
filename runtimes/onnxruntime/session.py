"""ONNX Runtime on the CPU: stateless graphs, and the language decoder with its cache updated in place.

The cache is numpy memory that the decoder owns and passes by pointer (IOBinding). The graph's `present_*`
outputs are bound to the buffers of its `past_*` inputs, so a step writes its own positions and copies
nothing. Knows bundles and this engine, no prompts and no text.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import LanguageConfig
from pam_edge.bundle.manifest import Graph, TensorSpec
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, PamEdgeError, UsageError, WontFitError
from pam_edge.runtimes.common.cached_rows import CachedRows
from pam_edge.runtimes.common.checks import check_embeds, check_feeds, check_room, check_tokens
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.host_cache import HostCache
from pam_edge.runtimes.common.session import Array, Floats
from pam_edge.runtimes.onnxruntime.external_files import check_external_files

try:
    import onnxruntime as ort

    from pam_edge.runtimes.onnxruntime import optimized_copies as optimized
    from pam_edge.runtimes.onnxruntime.integer_products import keep_exact
except ImportError as e:
    raise EnvironmentProblem(f"onnxruntime cannot be imported ({e}); pip install onnxruntime") from e

_CHUNK = 128  # positions a prefill call: 4 % faster than 512, for a fraction of the memory


class OrtSession:
    """`Session` of one graph of a bundle. `threads` 0 lets the engine choose.

    Raises UsageError for a graph the bundle lacks, IntegrityError where the engine refuses its file.
    """

    def __init__(self, bundle: Bundle, graph: str, *, threads: int = 0) -> None:
        self._graph = bundle.graph(graph)
        self._session = _open(bundle, self._graph, threads)
        self._outputs = [spec.name for spec in self._graph.outputs]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Named inputs to named outputs. Raises UsageError for feeds that are not the graph's inputs."""
        check_feeds(self._graph, feeds)
        try:
            values = self._session.run(self._outputs, dict(feeds))
        except Exception as e:
            raise _translated(e, f"graph {self._graph.name} failed") from e
        return dict(zip(self._outputs, values, strict=True))


class OrtDecoder(CachedRows[HostCache]):
    """`Decoder` of a bundle, with one empty row. Branches share the engine's session and its weights."""

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        graph = bundle.graph("decoder")
        self._language = bundle.manifest.variant.language
        self._names = _cache_names(graph, self._language)
        self.embed = TokenTable.open(bundle)
        self._session = _open(bundle, graph, threads)
        self._cache = HostCache(self._language, 1)
        self._bound: _Bound | None = None

    def prefill(self, embeds: Sequence[Floats]) -> Floats:
        """Append embeddings; see `Decoder.prefill`.

        Row by row, since the engine takes several positions after a past for a single row only, and in
        chunks, so that activations take the memory of a chunk.
        """
        check_embeds(embeds, self.lengths, self._language)
        after = [n + len(array) for n, array in zip(self.lengths, embeds, strict=True)]
        self._cache = self._cache.with_room(max(after))
        logits = np.empty((len(embeds), self._language.vocab_size), dtype=np.float32)
        for row, array in enumerate(embeds):
            length = self._cache.lengths[row]
            for start in range(0, len(array), _CHUNK):
                chunk = array[None, start : start + _CHUNK]
                self._run(
                    slice(row, row + 1), chunk, [length + start + chunk.shape[1]], logits[row : row + 1]
                )
        self._cache.lengths = after
        return logits

    def step(self, tokens: Sequence[int]) -> Floats:
        """Append one token per row, all rows in one call; see `Decoder.step`."""
        check_tokens(tokens, len(self.lengths))
        embeds = self.embed(tokens)[:, None]
        after = [n + 1 for n in self.lengths]
        check_room(after, self._language)
        self._cache = self._cache.with_room(max(after))
        logits = np.empty((len(tokens), self._language.vocab_size), dtype=np.float32)
        self._run(slice(0, len(tokens)), embeds, after, logits)
        self._cache.lengths = after
        return logits

    def _run(self, rows: slice, embeds: Floats, after: Sequence[int], logits: Floats) -> None:
        """Run `rows` forward to the lengths `after`; their cache and `logits` are written in place."""
        if self._bound is None or self._bound.of() is not self._cache or self._bound.rows != rows:
            self._bound = _Bound(self._session, rows, self._names, self._cache)
        seqlens = np.array(after, dtype=np.int32) - np.int32(1)
        total = np.array(max(after), dtype=np.int32)
        inputs = {
            "embeds": np.ascontiguousarray(embeds),
            "seqlens_k": seqlens,
            "total_sequence_length": total,
        }
        self._bound.run(inputs, logits)


class _Bound:
    """The cache of some rows, bound to the session once; steps then bind only what is new."""

    def __init__(
        self, session: ort.InferenceSession, rows: slice, names: Sequence[str], cache: HostCache
    ) -> None:
        self.of = weakref.ref(cache)  # a cache that was replaced is not to live on here
        self.rows, self._session, self._binding = rows, session, session.io_binding()
        for name, array in zip(names, cache.arrays, strict=True):
            view = array[rows]  # contiguous: whole rows
            for bind, kind in ((self._binding.bind_input, "past"), (self._binding.bind_output, "present")):
                bind(f"{kind}_{name}", "cpu", 0, np.float32, view.shape, view.ctypes.data)

    def run(self, inputs: Mapping[str, Array], logits: Floats) -> None:
        for name, array in inputs.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as e:
            raise _translated(e, "graph decoder failed") from e


def _open(bundle: Bundle, graph: Graph, threads: int) -> ort.InferenceSession:
    if threads < 0:
        raise UsageError(f"threads must be 0 (let the engine choose) or more, got {threads}")
    path = bundle.path(graph.files[0])
    check_external_files(bundle, graph)
    try:
        session = optimized.open_session(path, lambda: _options(threads, path), alone=len(graph.files) == 1)
    except EnvironmentProblem:
        raise
    except Exception as e:
        raise _translated(e, f"onnxruntime {ort.__version__} refuses {path}") from e
    _check_signature(path.name, graph.inputs, session.get_inputs())
    _check_signature(path.name, graph.outputs, session.get_outputs())
    return session


def _options(threads: int, path: Path) -> ort.SessionOptions:
    """What every session of a bundle is opened with; `path` is its graph.

    A change here that alters how the engine optimizes a graph also changes `onnx_optimized.FORMAT`.
    """
    options = ort.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ONNX")  # what was just checked
    # Of graphs that widen integer weights by standard operators: fused, but not with 8-bit activations.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its words come back in our errors
    # The arena never gives activations back: the image encoder would hold twice the memory, no faster.
    options.enable_cpu_mem_arena = False
    # Prepacking stays on: packed weights replace the mapped ones, so nothing is held twice, and a step of
    # several rows costs little more than one.
    keep_exact(options, path)
    return options


def _check_signature(file: str, specs: Sequence[TensorSpec], found: Sequence[ort.NodeArg]) -> None:
    """The file must be the graph that the manifest describes: same names, dtypes and fixed extents."""
    dtypes = {"float": "float32", "double": "float64"}
    held = {arg.name: arg for arg in found}
    wanted = {spec.name for spec in specs}
    if held.keys() != wanted:
        odd = ", ".join(sorted(held.keys() ^ wanted))
        raise IntegrityError(f"{file} is not the graph that bundle.json describes ({odd}); export again")
    for spec in specs:
        arg = held[spec.name]
        kind = arg.type.removeprefix("tensor(").removesuffix(")")
        kind = dtypes.get(kind, kind)
        fits = kind == spec.dtype and len(arg.shape) == len(spec.axes)
        if not fits or any(
            isinstance(axis, int) and axis != extent
            for axis, extent in zip(spec.axes, arg.shape, strict=True)
        ):
            raise IntegrityError(
                f"{file}: {spec.name} is {kind} {arg.shape} where bundle.json says {spec.dtype} "
                f"{list(spec.axes)}; export again"
            )


def _cache_names(graph: Graph, language: LanguageConfig) -> list[str]:
    """The cache's names without `past_` and `present_`, in layer order, checked against the manifest."""
    names = [f"{kind}.{i}" for i in range(language.layers) for kind in ("key", "value")]
    for name in names:
        axes = graph.input(f"past_{name}").axes
        if len(axes) != 4 or (axes[1], axes[3]) != (language.kv_heads, language.head_dim):
            raise IntegrityError(
                f"the decoder's past_{name} is {list(axes)}, which does not fit its variant; export again"
            )
    return names


def _translated(e: Exception, what: str) -> PamEdgeError:
    """The engine's exception as one of ours. Its types say little: lack of memory is told by its words."""
    words = " ".join(str(e).split())[:300]
    if isinstance(e, MemoryError) or "bad_alloc" in words or "Failed to allocate" in words:
        return WontFitError(f"{what}: out of memory ({words}); close other programs or use a smaller variant")
    return IntegrityError(f"{what}: {words}; copy or export the bundle again")
