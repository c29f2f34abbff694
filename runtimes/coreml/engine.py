"""CoreML's functions for the registry."""

from __future__ import annotations

from pam_edge.bundle.bundle import Bundle
from pam_edge.runtimes.common.session import Decoder, Session
from pam_edge.runtimes.coreml.session import CoremlDecoder, CoremlSession


def open_session(bundle: Bundle, graph: str, *, threads: int) -> Session:
    """See `Opener.open_session`."""
    return CoremlSession(bundle, graph, threads=threads)


def open_decoder(bundle: Bundle, *, threads: int) -> Decoder:
    """See `Opener.open_decoder`."""
    return CoremlDecoder(bundle, threads=threads)


def check_here(runtime: str) -> None:
    """Nothing to do: importing this module imported the engine."""
