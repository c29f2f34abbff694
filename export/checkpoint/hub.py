"""Weights by name on the Hugging Face hub: the files needed, of which commit, and their download.

Files go into huggingface_hub's cache. Nothing in a repository is executed: no code and no pickled weights are
downloaded, except SAM 2's `.pt`, which is read as tensors only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import tqdm

from pam_edge.core import system_info
from pam_edge.core.errors import (
    EnvironmentProblem,
    IntegrityError,
    PamEdgeError,
    UsageError,
    WontFitError,
    cannot_write,
)
from pam_edge.export.checkpoint.hub_names import HubFiles, HubName
from pam_edge.export.checkpoint.hub_transfer import RemoteFile, arrived, transfer
from pam_edge.export.checkpoint.weight_files import INDEX
from pam_edge.render.tables import size

SMALL = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)
SINGLE, SHARDS = "model.safetensors", "*-of-*.safetensors"
LOGIN = "log in with `hf auth login` (or set HF_TOKEN)"


class _NoBar(tqdm):
    """Links are made in no time."""

    def __init__(self, *args: Any, **named: Any) -> None:
        base: Any = super()  # not annotated there
        base.__init__(*args, **{**named, "disable": True})


@dataclass(frozen=True)
class Listing:
    """The wanted files of one commit, and which are still to come; `storage` is the repository's folder."""

    name: HubName
    commit: str
    files: tuple[RemoteFile, ...]
    missing: tuple[RemoteFile, ...]
    storage: Path

    @property
    def bytes(self) -> int:
        """Size of all that is wanted."""
        return sum(file.bytes for file in self.files)

    @property
    def to_come(self) -> int:
        """Bytes still to download."""
        return sum(file.bytes - arrived(file, self.storage) for file in self.missing)

    def text(self) -> str:
        """For people: what it is, how large, and how much of it is still to come."""
        left = f"{size(self.to_come)} to download to {self.storage}" if self.missing else "all of it here"
        return f"{self.name.repo}@{self.commit}: {size(self.bytes)} in {len(self.files)} files, {left}"


def find(name: HubName, *, file: bool = False) -> Listing:
    """Resolve a name to a commit and list its wanted files: those of a PAM folder, or (`file`) SAM 2's `.pt`.

    Downloads nothing. Without a connection, what is in the cache counts. Raises UsageError for what the hub
    does not have, EnvironmentProblem where it cannot be asked or wants a login.
    """
    with _clear_errors(name):
        storage = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name.repo, repo_type="model")
        commit = HfApi().resolve_revision(name.repo, revision=name.revision).resolved
        choose = _sam2_file if file else _pam_folder
        try:
            known = get_cached_repo_tree(name.repo, revision=commit)
            files = choose(name, known)
            if not _absent(files, storage, commit):
                return Listing(name, commit, files, (), storage)
        except CachedRepoTreeNotFoundError:
            pass
        tree = HfApi().list_repo_tree(name.repo, recursive=True, revision=commit)
        files = choose(name, [entry for entry in tree if isinstance(entry, RepoFile)])
        return Listing(name, commit, files, _absent(files, storage, commit), storage)


def check_space(listings: Sequence[Listing]) -> None:
    """Refuse before the first byte what will not fit in the cache. Raises WontFitError."""
    for place in {listing.storage.parent for listing in listings}:
        needed, free = sum(listing.to_come for listing in listings), system_info.free_disk(place)
        if free is not None and needed > free:
            raise WontFitError(
                f"this needs {size(needed)} of disk to download, {size(free)} are free at {place}: "
                "free some space, or set HF_HUB_CACHE to a folder on another disk"
            )


def fetch(listing: Listing) -> HubFiles:
    """Download what is missing, going on where an earlier call stopped; each file's hash is compared.

    Raises IntegrityError for what arrives damaged, WontFitError for a full disk, EnvironmentProblem where the
    connection fails or a login is wanted.
    """
    name, commit, storage = listing.name, listing.commit, listing.storage
    with _clear_errors(name):
        for file in listing.missing:
            transfer(name.repo, commit, file, storage)
        if listing.missing:  # only links are made: every file is there
            patterns = [file.path for file in listing.files]
            snapshot_download(name.repo, revision=commit, allow_patterns=patterns, tqdm_class=_NoBar)
        if wrong := _absent(listing.files, storage, commit):
            raise IntegrityError(
                f"{storage / 'snapshots' / commit / wrong[0].path} is not of the size that the hub lists: "
                "delete it and call again"
            )
    folder = storage / "snapshots" / commit
    if listing.files[0].path.endswith(".pt"):
        (only,) = listing.files
        return HubFiles(folder / only.path, name.repo, commit, only.path)
    return HubFiles(folder, name.repo, commit)


def _pam_folder(name: HubName, tree: Sequence[RepoFile]) -> tuple[RemoteFile, ...]:
    held = {entry.path: entry for entry in tree}
    weights = [path for path in held if fnmatch(path, SHARDS) and "/" not in path]
    if INDEX not in held:
        weights = [SINGLE] if SINGLE in held else []
    if not weights or "config.json" not in held:
        lacks = "safetensors (pickled weights are not read)" if "config.json" in held else "config.json"
        raise UsageError(f"{name.repo} on the Hugging Face hub is no PAM folder: it has no {lacks}")
    return tuple(_remote(held[path]) for path in (*SMALL, INDEX, *sorted(weights)) if path in held)


def _sam2_file(name: HubName, tree: Sequence[RepoFile]) -> tuple[RemoteFile, ...]:
    held = {entry.path: entry for entry in tree if entry.path.endswith(".pt")}
    listed = ", ".join(sorted(held)[:10]) or "none"
    if name.file is not None:
        if name.file not in held:
            raise UsageError(f"{name.repo} has no file {name.file}; its .pt files: {listed}")
        return (_remote(held[name.file]),)
    if len(held) != 1:
        raise UsageError(f"{name.repo} has not one .pt file but {len(held)}: name it with :FILE ({listed})")
    return tuple(_remote(entry) for entry in held.values())


def _remote(entry: RepoFile) -> RemoteFile:
    if entry.lfs is not None:
        return RemoteFile(entry.path, entry.lfs.size, entry.lfs.sha256)
    return RemoteFile(entry.path, entry.size, entry.blob_id)


def _absent(files: Sequence[RemoteFile], storage: Path, commit: str) -> tuple[RemoteFile, ...]:
    """Those that the commit's folder in the cache lacks, or holds at another size."""

    def here(file: RemoteFile) -> bool:
        path = storage / "snapshots" / commit / file.path
        return path.is_file() and path.stat().st_size == file.bytes

    return tuple(file for file in files if not here(file))


@contextmanager
def _clear_errors(name: HubName) -> Iterator[None]:
    """What goes wrong in huggingface_hub, in our words."""
    try:
        yield
    except PamEdgeError:
        raise
    except GatedRepoError as e:
        raise EnvironmentProblem(
            f"{name.repo} is gated: accept its terms on its page of the Hugging Face hub, then {LOGIN}"
        ) from e
    except RepositoryNotFoundError as e:
        raise UsageError(
            f"the Hugging Face hub has no repository {name.repo}, or it is private: "
            f"check the name, or {LOGIN}"
        ) from e
    except RevisionNotFoundError as e:
        raise UsageError(
            f"{name.repo} on the Hugging Face hub has no revision {name.revision}: "
            "give a branch, a tag or a commit of it"
        ) from e
    except HFValidationError as e:
        raise UsageError(f"{name.repo} is no name of a repository: {e}") from e
    except HfHubHTTPError as e:
        code = e.response.status_code
        advice = LOGIN if code in (401, 403) else "try again later; what was downloaded is kept"
        raise EnvironmentProblem(f"the Hugging Face hub refused {name.repo} (HTTP {code}): {advice}") from e
    except (RevisionResolutionError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.HTTPError) as e:
        why = "offline mode is on (HF_HUB_OFFLINE)" if constants.is_offline_mode() else type(e).__name__
        raise EnvironmentProblem(
            f"the Hugging Face hub cannot be reached for {name.repo} ({why}), and the cache lacks files "
            "of it: check the connection and call again; what was downloaded is kept"
        ) from e
    except OSError as e:
        if e.errno is None:  # huggingface_hub's own: another size than announced
            raise IntegrityError(f"a file of {name.repo} arrived incomplete: call again ({e})") from e
        raise cannot_write(e.filename or constants.HF_HUB_CACHE, e) from e
