"""A bundle whose graphs are opened once, however many fresh `Pam`s are made over them. Knows no clock.

Stop tokens are ignored, so that every bundle says as much.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from pam_edge.bundle import Bundle
from pam_edge.pam import Engine, Pam
from pam_edge.runtimes import Decoder, Session, open_decoder, open_session

DECODER = "decoder"


class Opened:
    """Graphs of one bundle. `threads` 0 lets the engine choose."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Opens the manifest alone. Raises like `Bundle.open` without its check of hashes."""
        opened = Bundle.open(folder, check=False)
        self.bundle = Bundle(opened.folder, msgspec.structs.replace(opened.manifest, stop_ids=()))
        self._threads = threads
        self._sessions: dict[str, Session] = {}
        self._decoder: Decoder | None = None

    def session(self, graph: str) -> Session:
        """A graph's session, opened when it is first asked for."""
        if graph not in self._sessions:
            self._sessions[graph] = open_session(self.bundle, graph, threads=self._threads)
        return self._sessions[graph]

    def decoder(self) -> Decoder:
        """The decoder with one empty row, opened when it is first asked for."""
        if self._decoder is None:
            self._decoder = open_decoder(self.bundle, threads=self._threads)
        return self._decoder

    def open(self, graphs: Iterable[str]) -> None:
        """Open graphs now. Raises UsageError for one that the bundle lacks."""
        for graph in graphs:
            self.decoder() if graph == DECODER else self.session(graph)

    def pam(self) -> Pam:
        """A `Pam` with empty caches over the graphs that are open already."""
        return Pam(self.bundle, Engine(self.session, self.decoder))
