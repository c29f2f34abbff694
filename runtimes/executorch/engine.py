"""ExecuTorch's functions for the registry."""

from __future__ import annotations

from pam_edge.bundle.bundle import Bundle
from pam_edge.runtimes.common.session import Decoder, Session
from pam_edge.runtimes.executorch.session import EtDecoder, EtSession, check_backend


def open_session(bundle: Bundle, graph: str, *, threads: int) -> Session:
    """See `Opener.open_session`."""
    return EtSession(bundle, graph, threads=threads)


def open_decoder(bundle: Bundle, *, threads: int) -> Decoder:
    """See `Opener.open_decoder`."""
    return EtDecoder(bundle, threads=threads)


def check_here(runtime: str) -> None:
    """See `Opener.check_here`."""
    check_backend(runtime)
