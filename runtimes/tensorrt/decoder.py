"""The language decoder on TensorRT and TensorRT-RTX, with its cache in device memory.

The cache is one buffer per layer for keys and one for values, which never leaves the GPU. A call reads it in
place, and the keys and values it returns are written after the entries held. The step is recorded as a CUDA
graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Graph
from pam_edge.core.errors import IntegrityError, WontFitError
from pam_edge.runtimes.common.cached_rows import CachedRows
from pam_edge.runtimes.common.checks import check_embeds, check_room, check_tokens
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.session import Floats
from pam_edge.runtimes.tensorrt.call import Call, Engine, empty, shape_of
from pam_edge.runtimes.tensorrt.cuda import Buffer, Stream
from pam_edge.runtimes.tensorrt.cuda import Graph as Recorded

_FIRST_CAPACITY = 512  # positions; doubled when full
STEP, PREFILL = "step", "prefill"  # the decoder's profiles


class _Cache:
    """Keys and values of some rows: per layer and kind one buffer [rows, kv heads, capacity, head dim]."""

    def __init__(self, gpu: _Machine, rows: int, capacity: int) -> None:
        self.gpu, self.capacity, self.lengths = gpu, capacity, [0] * rows
        # Zeros: what does not count is still multiplied, by 0, and must be a number.
        self.buffers = [Buffer.of(rows * self.row_bytes) for _ in gpu.parts] if capacity else []

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of one buffer."""
        return self.gpu.heads * self.capacity * self.gpu.width

    def select(self, rows: Sequence[int], capacity: int | None = None) -> _Cache:
        """A copy of some rows, in that order, as often as they are named."""
        capacity = self.capacity if capacity is None else capacity
        other = _Cache(self.gpu, len(rows), capacity)
        other.lengths = [self.lengths[row] for row in rows]
        for new, old in zip(other.buffers, self.buffers, strict=False):  # an empty cache has no buffers yet
            for i, row in enumerate(rows):
                if other.lengths[i]:
                    self.gpu.stream.copy_rows(
                        new.address + i * other.row_bytes,
                        capacity * self.gpu.width,
                        old.address + row * self.row_bytes,
                        self.capacity * self.gpu.width,
                        width=other.lengths[i] * self.gpu.width,
                        rows=self.gpu.heads,
                    )
        self.gpu.stream.wait()
        return other


class TrtDecoder(CachedRows[_Cache]):
    """`Decoder` of a bundle, with one empty row. Branches share the engine and its weights."""

    def __init__(self, bundle: Bundle) -> None:
        graph, self._language = bundle.graph("decoder"), bundle.manifest.variant.language
        self.embed = TokenTable.open(bundle)
        self._gpu = _Machine(bundle, graph)
        self._cache = _Cache(self._gpu, 1, 0)

    def prefill(self, embeds: Sequence[Floats]) -> Floats:
        """Append embeddings, row by row and in chunks of what the engine takes; see `Decoder.prefill`."""
        check_embeds(embeds, self.lengths, self._language)
        after = [n + len(array) for n, array in zip(self.lengths, embeds, strict=True)]
        self._make_room(max(after))
        logits = np.empty((len(embeds), self._language.vocab_size), np.float32)
        chunk = self._gpu.most("tokens", PREFILL)
        for row, array in enumerate(embeds):
            for start in range(0, len(array), chunk):
                held = self._cache.lengths[row] + start
                part = array[None, start : start + chunk]
                logits[row] = self._gpu.run(PREFILL, self._cache, slice(row, row + 1), part, [held])[0]
        self._cache.lengths = after
        return logits

    def step(self, tokens: Sequence[int]) -> Floats:
        """Append one token per row, as many rows a call as the engine takes; see `Decoder.step`."""
        check_tokens(tokens, len(self.lengths))
        embeds = self.embed(tokens)[:, None]
        after = [n + 1 for n in self.lengths]
        check_room(after, self._language)
        self._make_room(max(after))
        rows = self._gpu.most("batch", STEP)
        logits = [
            self._gpu.run(
                STEP, self._cache, slice(i, i + rows), embeds[i : i + rows], self._cache.lengths[i : i + rows]
            )
            for i in range(0, len(tokens), rows)
        ]
        self._cache.lengths = after
        return np.concatenate(logits)

    def _make_room(self, positions: int) -> None:
        if positions <= self._cache.capacity:
            return
        most = min(self._language.max_length, self._gpu.most("capacity", STEP))
        if positions > most:
            raise WontFitError(
                f"{positions} positions asked for where the engine was built for at most {most}; "
                "shorten the question, ask for fewer new tokens, or use fewer frames"
            )
        capacity = min(max(_FIRST_CAPACITY, 2 * self._cache.capacity, positions), most)
        self._cache = self._cache.select(range(len(self._cache.lengths)), capacity)


class _Machine:
    """The decoder's engine with a context for each profile; shared by a decoder and its branches."""

    def __init__(self, bundle: Bundle, graph: Graph) -> None:
        language = bundle.manifest.variant.language
        self.parts = [f"{kind}.{i}" for i in range(language.layers) for kind in ("key", "value")]
        self.graph, self.stream = graph, Stream()
        self.heads, self._vocabulary = language.kv_heads, language.vocab_size
        kind = np.dtype(graph.input(f"past_{self.parts[0]}").dtype)
        self.width = language.head_dim * kind.itemsize  # bytes of a position of one head
        self._profiles = {profile.name: profile for profile in graph.profiles}
        if {STEP, PREFILL} - self._profiles.keys():
            raise IntegrityError("the decoder lacks the profiles step and prefill; export the bundle again")
        self._engine = Engine(bundle, graph)
        order = [profile.name for profile in graph.profiles]
        self._recorded: tuple[tuple[int, ...], Recorded] | None = None
        self._calls = {name: Call(self._engine, order.index(name), self.stream) for name in (STEP, PREFILL)}

    def most(self, axis: str, profile: str) -> int:
        """The greatest extent that a profile is built for."""
        return self._profiles[profile].axes[axis][2]

    def run(self, name: str, cache: _Cache, rows: slice, embeds: Floats, held: Sequence[int]) -> Floats:
        """Append `embeds` [n, T, H] to rows that hold so many positions; logits [n, V]."""
        call, (count, tokens) = self._calls[name], embeds.shape[:2]
        position = np.array(held, np.int64)
        axes = {"batch": count, "tokens": tokens, "capacity": cache.capacity}
        inputs = {spec.name: spec for spec in self.graph.inputs}
        call.feed(inputs["embeds"], np.ascontiguousarray(embeds))
        call.feed(inputs["position"], position)
        start = rows.start * cache.row_bytes
        for part, buffer in zip(self.parts, cache.buffers, strict=True):
            spec = inputs[f"past_{part}"]
            call.lend(spec, shape_of(spec, axes), buffer.address + start)
        logits = np.empty((count, self._vocabulary), np.float32)
        for spec in self.graph.outputs:
            call.give(spec, empty(spec, axes).nbytes)
        if name == PREFILL:
            call.run()
        else:
            self._step(call, (count, cache.capacity, start, *(b.address for b in cache.buffers)))
        for part, buffer in zip(self.parts, cache.buffers, strict=True):
            new, size = call.buffers[f"new_{part}"].address, tokens * self.width
            for i, length in enumerate(held):
                self.stream.copy_rows(
                    buffer.address + (rows.start + i) * cache.row_bytes + length * self.width,
                    cache.capacity * self.width,
                    new + i * self.heads * size,
                    size,
                    width=size,
                    rows=self.heads,
                )
        call.read("logits", logits)
        self.stream.wait()
        return logits

    def _step(self, call: Call, bound: tuple[int, ...]) -> None:
        """A recording holds addresses and shapes: as long as these stay, it is launched; else made anew."""
        if self._engine.flavour == "tensorrt_rtx":
            call.run()
            return
        bound = (*bound, *(buffer.address for buffer in call.buffers.values()))
        if self._recorded is not None and self._recorded[0] == bound:
            self._recorded[1].launch()
            return
        self._recorded = None
        call.run()  # by itself: what an engine sets up for new shapes must not be recorded
        self.stream.wait()
        self._recorded = bound, self.stream.record(call.run)
