"""A hub on loopback: the endpoints that huggingface_hub asks, from bytes in memory, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".pt", ".bin")


@dataclass
class Repo:
    """Commits of one repository, and what its revisions are called."""

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    gated: bool = False

    def commit(self, revision: str) -> str | None:
        """The full hash of a revision, or None."""
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Hub:
    """What is served, what was asked, and what goes wrong."""

    repos: dict[str, Repo] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range
    cut: dict[str, int] = field(default_factory=dict)  # file -> bytes after which its connection breaks, once
    after_cut: Callable[[], None] = lambda: None
    refuse: dict[str, int] = field(default_factory=dict)  # file -> status of its GET
    swap: dict[str, bytes] = field(default_factory=dict)  # file -> other bytes that are sent
    endpoint: str = ""

    def add(self, name: str, files: dict[str, bytes], *, gated: bool = False) -> str:
        """Commit files to a repository's `main`; returns the commit."""
        told = json.dumps({path: hashlib.sha256(raw).hexdigest() for path, raw in sorted(files.items())})
        commit = hashlib.sha1((name + told).encode()).hexdigest()
        repo = self.repos.setdefault(name, Repo({}, {}, gated))
        repo.commits[commit] = dict(files)
        repo.refs["main"] = commit
        return commit

    def gets(self, file: str) -> list[str | None]:
        """The Range of every download of a file."""
        return [
            range_ for method, path, range_ in self.asked if method == "GET" and path.endswith("/" + file)
        ]


def files_of(folder: Path) -> dict[str, bytes]:
    """A folder's files by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def git_hash(raw: bytes) -> str:
    """What git calls these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()


def etag(path: str, raw: bytes) -> str:
    """As the hub gives it: large files lie in git-lfs."""
    return hashlib.sha256(raw).hexdigest() if path.endswith(LARGE) else git_hash(raw)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers at `endpoint`."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        repo = self.hub.repos.get(name)
        if repo is None:
            self._fault(401, "RepoNotFound")  # what the hub says of what it does not show
            return
        verb, rest = (parts[4:5] or ["revision"], parts[5:]) if api else (parts[2:3], parts[3:])
        commit = repo.commit(rest[0] if rest else "main")
        if commit is None:
            self._fault(404, "RevisionNotFound")
        elif verb == ["revision"]:
            self._json({"_id": "0", "id": name, "modelId": name, "sha": commit, "siblings": [], "tags": []})
        elif verb == ["tree"]:
            self._json([_listed(path, raw) for path, raw in repo.commits[commit].items()])
        elif repo.gated and not self.headers.get("Authorization"):
            self._fault(401, "GatedRepo")
        else:
            self._file(commit, "/".join(rest[1:]), repo.commits[commit])

    def _file(self, commit: str, path: str, files: dict[str, bytes]) -> None:
        if path not in files:
            self._fault(404, "EntryNotFound")
            return
        if self.command == "GET" and path in self.hub.refuse:
            self._fault(self.hub.refuse[path], "")
            return
        raw, start = files[path], 0
        self.tag = etag(path, raw)
        raw = self.hub.swap.get(path, raw)
        wanted = self.headers.get("Range")
        if wanted:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(raw) - 1}/{len(raw)}")
        self.send_header("ETag", f'"{self.tag}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(raw) - start))
        self.end_headers()
        if self.command == "GET":
            stop = self.hub.cut.pop(path, None)
            self.wfile.write(raw[start:stop])
            if stop is not None:
                self.wfile.flush()
                self.hub.after_cut()
                self.close_connection = True

    def _json(self, document: Any) -> None:
        raw = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _fault(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _listed(path: str, raw: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "file", "path": path, "size": len(raw), "oid": git_hash(raw)}
    if path.endswith(LARGE):
        row["lfs"] = {"oid": etag(path, raw), "size": len(raw), "pointerSize": 130}
    return row
