"""A device by what the command line calls it: one row a kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pam_edge.benchmarks.devices import adb, local, ssh
from pam_edge.benchmarks.devices.local import Choice, Device, Tell
from pam_edge.core.errors import UsageError


@dataclass(frozen=True)
class Kind:
    """One kind of device, written `name` or `name:address`."""

    name: str
    spelling: str  # for people, in help and errors
    address: str  # a regular expression of what may follow the colon, nothing where there is none
    opened: Callable[[str, Choice, Path, Tell], Device]  # address, choice, folder of logs, progress


KINDS: tuple[Kind, ...] = (
    Kind("local", "local", "", local.opened),
    Kind("ssh", "ssh:USER@HOST", "[^-].*", ssh.opened),  # what begins with - would be an option of ssh
    Kind("adb", "adb[:SERIAL]", ".*", adb.opened),
)


def open_device(choice: Choice, *, logs: Path, tell: Tell) -> Device:
    """The device; what its runners say goes into the folder `logs`. Raises UsageError for an unknown one."""
    name, _, address = choice.device.partition(":")
    for kind in KINDS:
        if kind.name == name and re.fullmatch(kind.address, address, re.DOTALL):
            return kind.opened(address, choice, logs, tell)
    known = ", ".join(kind.spelling for kind in KINDS)
    raise UsageError(f"--device {choice.device!r} is unknown; write one of: {known}")
