"""Devices as `bench` sees them, and the simplest of them: this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.bundle.bundle import Bundle

RUNNER = "pam_edge.benchmarks.speed.runner"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """What the command line says of the device. Each kind reads what it needs."""

    device: str = "local"
    name: str | None = None  # as rows call it; None: as it was asked for
    python: str = "python3"
    environment: str = "fetched"
    remote: str | None = None  # folder there
    ssh_config: Path | None = None
    runner: Path | None = None  # for adb


class Device(Protocol):
    """Where bundles are measured."""

    @property
    def name(self) -> str:
        """As rows call it."""
        ...

    def prepare(self, bundle: Bundle) -> str:
        """Bring a bundle there, if it is not there yet; the folder it lies in there.

        Raises DeviceError where the device is gone, full or refuses.
        """
        ...

    def start(self) -> Worker:
        """A runner, with nothing opened yet. Raises like `prepare`."""
        ...


class Local:
    """This machine, with the Python that runs."""

    def __init__(self, logs: Path, *, name: str = "local") -> None:
        """What runners say goes into the folder `logs`."""
        self.name, self._logs, self._count = name, logs, 0

    def prepare(self, bundle: Bundle) -> str:
        """Where it lies."""
        return str(bundle.folder.resolve())

    def start(self) -> Worker:
        """A process of its own."""
        self._count += 1
        log = self._logs / f"runner-{self._count}.txt"
        return Worker(self.name, [sys.executable, "-m", RUNNER], log=log)


def opened(address: str, choice: Choice, logs: Path, tell: Tell) -> Device:
    """See `Kind.opened`."""
    return Local(logs, name=choice.name or "local")
