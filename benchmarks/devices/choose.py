"""A device by what the command line calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pam_edge.benchmarks.devices.adb import ROOT as PHONE_ROOT
from pam_edge.benchmarks.devices.adb import Adb, Link
from pam_edge.benchmarks.devices.local import Device, Local
from pam_edge.benchmarks.devices.ssh import ROOT, Environment, Ssh, Way
from pam_edge.core.errors import UsageError


@dataclass(frozen=True)
class Choice:
    """What the command line says of the device."""

    device: str = "local"
    name: str | None = None  # as rows call it; None: as it was asked for
    python: str = "python3"
    environment: str = "fetched"
    remote: str | None = None  # folder there
    ssh_config: Path | None = None
    runner: Path | None = None  # for adb


def open_device(choice: Choice, *, logs: Path, tell: Callable[[str], None]) -> Device:
    """The device; what its runners say goes into the folder `logs`. Raises UsageError for an unknown one."""
    kind, _, rest = choice.device.partition(":")
    match kind:
        case "local" if not rest:
            return Local(logs, name=choice.name or "local")
        case "ssh" if rest and not rest.startswith("-"):
            way = Way(
                target=rest,
                name=choice.name or choice.device,
                python=choice.python,
                environment=_environment(choice.environment),
                config=choice.ssh_config,
                root=choice.remote or ROOT,
            )
            return Ssh(way, logs=logs, cache=Path.home() / ".cache" / "pam-edge", tell=tell)
        case "adb":
            if choice.runner is None:
                raise UsageError("a phone needs --runner: a folder that `arm64.py` made, see docs/devices.md")
            root = choice.remote or PHONE_ROOT
            link = Link(choice.name or choice.device, rest or None, choice.runner, root)
            return Adb(link, logs=logs, tell=tell)
        case _:
            raise UsageError(
                f"--device {choice.device!r} is unknown; write local, ssh:user@host, adb or adb:serial"
            )


def _environment(text: str) -> Environment:
    match text:
        case "fetched" | "own":
            return text
        case _:
            raise UsageError(f"--env {text!r} is unknown; write fetched or own")
