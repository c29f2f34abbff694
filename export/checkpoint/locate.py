"""Weights as named on the command line: local files first, then names on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pam_edge.core.errors import EnvironmentProblem, UsageError
from pam_edge.export.checkpoint.hub_names import HubFiles, HubName, hub_name

if TYPE_CHECKING:
    from pam_edge.export.checkpoint.hub import Listing


@dataclass(frozen=True)
class Located:
    """What was named: local as it was given, or listed on the hub and perhaps still to download."""

    weights: str | Listing
    sam2: Path | Listing | None

    @property
    def listings(self) -> tuple[Listing, ...]:
        """What is on the hub."""
        found = (self.weights, self.sam2)
        return tuple(one for one in found if one is not None and not isinstance(one, str | Path))

    @property
    def missing(self) -> bool:
        """Whether anything is still to download."""
        return any(listing.missing for listing in self.listings)

    def fetch(self) -> tuple[str | HubFiles, Path | HubFiles | None]:
        """Weights and SAM 2's file as `build.plan` takes them, downloaded where that is still to do.

        Raises WontFitError before the first byte where the disk is too small, and what `hub.fetch` raises.
        """
        weights, sam2 = self.weights, self.sam2
        if self.listings:
            from pam_edge.export.checkpoint.hub import check_space

            check_space(self.listings)
        return (
            weights if isinstance(weights, str) else _fetched(weights),
            sam2 if sam2 is None or isinstance(sam2, Path) else _fetched(sam2),
        )


def locate(weights: str, sam2: str | None) -> Located:
    """Tell local files from names on the hub, and ask the hub about the latter; downloads nothing.

    Raises UsageError for what is neither, EnvironmentProblem where the hub cannot be asked.
    """
    named = hub_name(weights)
    found = weights if named is None else _listing(named)
    if sam2 is None:
        return Located(found, None)
    named = hub_name(sam2, file=True)
    return Located(found, Path(sam2) if named is None else _listing(named, file=True))


def _fetched(listing: Listing) -> HubFiles:
    from pam_edge.export.checkpoint.hub import fetch

    return fetch(listing)


def _listing(name: HubName, *, file: bool = False) -> Listing:
    """As `hub.find`; what may have been meant as a path gets an error that tells both readings."""
    try:
        try:
            from pam_edge.export.checkpoint.hub import find
        except ModuleNotFoundError as e:
            raise EnvironmentProblem(
                f"downloading weights needs {e.name}: pip install 'pam-edge[hub]'"
            ) from e
        return find(name, file=file)
    except (UsageError, EnvironmentProblem) as e:
        if not name.is_like_a_path:
            raise
        local = f"no {'file' if file else 'PAM folder'} at {name.given}"
        raise type(e)(f"{local}; read as a name on the Hugging Face hub instead: {e}") from e
