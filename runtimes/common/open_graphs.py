"""The graphs of a bundle, each opened once: when it is first used, or ahead of time in a background thread.

Engines release Python's lock while they open a graph, so one can open while another runs. Knows no engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from pam_edge.core.errors import UsageError
from pam_edge.runtimes.common.session import Decoder, Session

DECODER = "decoder"  # the graph that a `Decoder` runs; every other is a `Session`


@dataclass(frozen=True)
class Engine:
    """How a bundle's graphs are opened: a session by a graph's name, and the decoder with one empty row.

    `concurrent`: one may be opened while another runs.
    """

    session: Callable[[str], Session]
    decoder: Callable[[], Decoder]
    concurrent: bool = False


class Graphs:
    """The open graphs of one bundle. Safe from several threads; what it hands out need not be."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._found: dict[str, Future[Session | Decoder]] = {}
        self._closed = False

    def session(self, graph: str) -> Session:
        """A graph's session, opened where it is not open yet. Raises what opening it raises, every time, and
        UsageError after `close`.
        """
        return cast("Session", self._get(graph))

    def decoder(self) -> Decoder:
        """The decoder with one empty row. Raises like `session`."""
        return cast("Decoder", self._get(DECODER))

    def is_open(self, graph: str) -> bool:
        """Whether asking for a graph returns at once."""
        with self._lock:
            future = self._found.get(graph)
        return future is not None and future.done()

    def begin(self, *graphs: str) -> None:
        """Open graphs in a background thread, in the order given. An error is raised to who asks for that
        graph, which opens it again. Does nothing where the engine is not known to allow it.
        """
        if not self._engine.concurrent or all(map(self.is_open, graphs)):
            return
        threading.Thread(target=self._open_each, args=(graphs,), name="pam-edge-open").start()

    def close(self) -> None:
        """Forget every graph; those that are being opened now are waited for. Nothing opens afterwards."""
        with self._lock:
            self._closed = True
            futures = list(self._found.values())
        for future in futures:
            future.exception()  # waits
        with self._lock:
            self._found.clear()

    def _open_each(self, graphs: tuple[str, ...]) -> None:
        for graph in graphs:
            with suppress(Exception):
                self._get(graph)

    def _get(self, graph: str) -> Session | Decoder:
        with self._lock:
            if self._closed:
                raise UsageError(
                    "this model is closed: load it again, or work inside `with pam_edge.load(...) as pam:`"
                )
            future = self._found.get(graph)
            ours = future is None
            if future is None:
                future = self._found[graph] = Future()
        if ours:
            try:
                future.set_result(self._engine.decoder() if graph == DECODER else self._engine.session(graph))
            except BaseException as e:
                with self._lock:
                    self._found.pop(graph, None)
                future.set_exception(e)
        return future.result()
