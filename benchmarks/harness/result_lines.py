"""Files of results, a JSON object a line: any kind of struct with a `key`, each key held once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from pam_edge.core.errors import IntegrityError, cannot_write


class Keyed(Protocol):
    """A line: what it is replaced by has the same key."""

    @property
    def key(self) -> tuple[object, ...]: ...


Line = TypeVar("Line", bound=Keyed)


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """Every line of a file; none where there is no file. Raises IntegrityError for a line of another kind."""
    if not path.exists():
        return []
    found: list[Line] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(msgspec.json.decode(line, type=kind))
        except msgspec.DecodeError as e:
            what = kind.__name__
            raise IntegrityError(f"{path}, line {number} is no {what}: {e}; move the file away") from e
    return found


def put_lines(path: Path, lines: Iterable[Line], kind: type[Line]) -> None:
    """Add lines to a file, each in the place of an earlier one of its key; whole or not at all.

    Raises like `read_lines`, and WontFitError or EnvironmentProblem where it cannot be written.
    """
    held = {line.key: line for line in (*read_lines(path, kind), *lines)}
    replace_file(path, b"".join(msgspec.json.encode(line) + b"\n" for line in held.values()))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, its folder too. Raises WontFitError or EnvironmentProblem."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, e) from e
