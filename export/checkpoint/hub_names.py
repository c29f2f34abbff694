"""Names of weights on the Hugging Face hub and the files they stand for. Needs no package and no network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pam_edge.bundle import builtin
from pam_edge.core.errors import UsageError

_PART = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,95}"
_NAME = re.compile(
    rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][\w./\-]*))?(?::(?P<file>[\w./\-]+))?"
)


@dataclass(frozen=True)
class HubName:
    """`ORG/NAME[@REVISION][:FILE]`: a repository, a branch, tag or commit of it, and a file in it."""

    given: str
    repo: str
    revision: str | None = None
    file: str | None = None

    @property
    def is_like_a_path(self) -> bool:
        """Whether a local folder or file may as well have been meant."""
        return self.given == self.repo


@dataclass(frozen=True)
class HubFiles:
    """A folder of files, or one file, downloaded from a commit of a repository."""

    path: Path
    repo: str
    commit: str  # the full hash
    file: str | None = None

    def __str__(self) -> str:
        return f"{self.repo}@{self.commit}" + (f":{self.file}" if self.file else "")


def hub_name(given: str, *, file: bool = False) -> HubName | None:
    """The name on the hub that was given, or None where this is a local path or another kind of weights.

    What exists here is local, whatever its name. `file`: whether one file of a repository may be named.
    Raises UsageError for a file where a folder is wanted.
    """
    found = _NAME.fullmatch(given)
    if found is None or builtin.ships(given) or Path(given).exists():
        return None
    if found["file"] is not None and not file:
        raise UsageError(f"{given}: PAM's weights are a repository, not one file: leave out :{found['file']}")
    return HubName(given, found["repo"], found["revision"], found["file"])
