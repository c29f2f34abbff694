"""A device by what the command line calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pam_edge.benchmarks.devices.local import Device, Local
from pam_edge.errors import UsageError


@contextmanager
def open_device(name: str, logs: Path) -> Iterator[Device]:
    """The device of that name; what its runners say goes into the folder `logs`. Raises UsageError."""
    kind, _, rest = name.partition(":")
    match kind:
        case "local" if not rest:
            yield Local(logs)
        case _:
            raise UsageError(f"--device {name!r} is unknown; write local")
