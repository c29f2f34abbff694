"""A bundle whose graphs are opened once, however many fresh `Pam`s are made over them. Knows no clock.

Stop tokens are ignored, so that every bundle says as much.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import UsageError
from pam_edge.pipeline.pam import Pam
from pam_edge.runtimes.common.open_graphs import Engine
from pam_edge.runtimes.common.registry import open_decoder, open_session
from pam_edge.runtimes.common.session import Decoder, Session

if TYPE_CHECKING:
    from pam_edge.runtimes.executorch.etdump import Execution
    from pam_edge.runtimes.executorch.session import EtDecoder, EtSession

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


class Traced(Opened):
    """The same with ExecuTorch's record of what each operator took."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Raises UsageError for a bundle of another engine."""
        super().__init__(folder, threads)
        runtime = self.bundle.manifest.runtime
        if runtime != "executorch":
            raise UsageError(
                f"only ExecuTorch tells what operators take, this bundle is for {runtime}: "
                "give one of target android, or another --task"
            )
        self._kept: dict[str, EtSession | EtDecoder] = {}

    def session(self, graph: str) -> Session:
        """As above; `traces` ends it."""
        from pam_edge.runtimes.executorch.session import EtSession

        if graph not in self._kept:
            self._kept[graph] = EtSession(self.bundle, graph, threads=self._threads, traced=True)
        return cast("Session", self._kept[graph])

    def decoder(self) -> Decoder:
        """As above; `traces` ends it."""
        from pam_edge.runtimes.executorch.session import EtDecoder

        if DECODER not in self._kept:
            self._kept[DECODER] = EtDecoder(self.bundle, threads=self._threads, traced=True)
        return cast("Decoder", self._kept[DECODER])

    def traces(self) -> dict[str, tuple[Execution, ...]]:
        """Calls of every graph since it was opened. The engine's record ends here: graphs are opened anew."""
        kept, self._kept = self._kept, {}
        return {name: calls for graph in kept.values() for name, calls in graph.trace().items() if calls}
