"""Say where the packages installed here differ from what locks hold: `python tools/newest.py LOCK ...`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker

_LINE = re.compile(
    r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+))?", re.MULTILINE
)


def locked(text: str) -> dict[str, str]:
    """Versions of a lock by package, as they are for this Python and system."""
    return {
        line["name"]: line["version"]
        for line in _LINE.finditer(text)
        if line["marker"] is None or Marker(line["marker"].strip()).evaluate()
    }


def differences(lock: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """A line for each package whose version is another, that is missing here, or that the lock lacks."""
    found = []
    for name in sorted({*lock, *here}):
        if lock.get(name) != here.get(name):
            found.append(f"{name}: {lock.get(name, 'not in the lock')} -> {here.get(name, 'not installed')}")
    return found


def main() -> int:
    """Print the differences; how many there are is no failure."""
    lock = locked("".join(Path(name).read_text(encoding="utf-8") for name in sys.argv[1:]))
    here = {re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in distributions()}
    found = differences(lock, {name: version for name, version in here.items() if name != "pam-edge"})
    print("\n".join(found) or "the newest that is allowed is what is locked")  # noqa: T201 - a command of its own
    return 0


if __name__ == "__main__":
    sys.exit(main())
