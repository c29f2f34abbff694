"""What runs on the other side of ssh before anything of ours is there: puts files where they belong.

It is sent as text and needs nothing but a Python 3.8 with its standard library. JSON lines over the pipe, the
bytes of a file after the line that announces them. Files are kept by their sha256, so that nothing is sent
twice and what was cut off goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any, Mapping  # noqa: UP035 - older Pythons have it here alone

BLOCK = 1 << 20
Asked = Mapping[str, Any]


def answer(document: Asked) -> None:
    """One line back."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def digest(path: Path) -> str:
    """Hex sha256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as f:
        for block in iter(lambda: f.read(BLOCK), b""):
            found.update(block)
    return found.hexdigest()


class Agent:
    """One folder with everything in it."""

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser().absolute()
        (self.root / "store").mkdir(parents=True, exist_ok=True)

    def at(self, name: str) -> Path:
        """A place right below the root. Raises ValueError for a name that leads elsewhere."""
        if name != os.path.basename(name) or name in ("", ".", ".."):  # noqa: PTH119 - it is a name, no path
            raise ValueError("a place outside: " + name)
        return self.root / name

    def stored(self, sha: str) -> Path:
        """Where a file lies."""
        if not sha.isalnum():
            raise ValueError("no sha256: " + sha)
        return self.root / "store" / sha

    def hello(self, asked: Asked) -> Asked:
        """What is here."""
        return {
            "python": list(sys.version_info[:2]),
            "system": platform.system(),
            "machine": platform.machine(),
            "libc": platform.libc_ver()[1],
            "free": shutil.disk_usage(str(self.root)).free,
            "root": str(self.root),
        }

    def have(self, asked: Asked) -> Asked:
        """Of each file, how many bytes are here; -1 where it is whole."""
        found = {}
        for sha in asked["files"]:
            part = self.part(sha)
            found[sha] = -1 if self.stored(sha).exists() else part.stat().st_size if part.exists() else 0
        return found

    def part(self, sha: str) -> Path:
        """Where a file lies that is not whole yet."""
        whole = self.stored(sha)
        return whole.with_name(whole.name + ".part")

    def put(self, asked: Asked) -> Asked:
        """The next bytes of a file; the last of them finish it."""
        part = self.part(asked["sha"])
        raw = sys.stdin.buffer.read(asked["bytes"])
        if len(raw) != asked["bytes"]:
            sys.exit(1)  # the other side is gone
        with part.open("ab") as f:
            f.truncate(asked["offset"])
            f.write(raw)
        if asked["offset"] + len(raw) < asked["size"]:
            return {}
        if digest(part) != asked["sha"]:
            part.unlink()
            return {"error": "what arrived is not what was sent (sha256 differs); try again"}
        part.replace(self.stored(asked["sha"]))
        return {}

    def lay(self, asked: Asked) -> Asked:
        """A folder of files that are all here, whole or not at all."""
        folder = self.at(asked["folder"])
        if not folder.is_dir():
            making = self.fresh(folder)
            for name, sha in asked["files"].items():
                here = making / self.at(name).name
                try:
                    os.link(str(self.stored(sha)), str(here))
                except OSError:  # a file system without links
                    shutil.copyfile(str(self.stored(sha)), str(here))
            making.replace(folder)
        return {"path": str(folder)}

    def unpack(self, asked: Asked) -> Asked:
        """A folder to put on PYTHONPATH, of wheels that are all here."""
        folder = self.at(asked["folder"])
        if not folder.is_dir():
            making = self.fresh(folder)
            for sha in asked["wheels"]:
                with zipfile.ZipFile(str(self.stored(sha))) as wheel:
                    wheel.extractall(str(making))
            making.replace(folder)
        return {"path": str(folder)}

    def fresh(self, folder: Path) -> Path:
        """An empty folder beside."""
        making = folder.with_name(folder.name + ".making")
        shutil.rmtree(str(making), ignore_errors=True)
        making.mkdir()
        return making


def serve(root: str) -> None:
    """Do what is asked until the pipe ends."""
    agent = Agent(root)
    for line in iter(sys.stdin.buffer.readline, b""):
        asked = json.loads(line.decode())
        try:
            answer({"result": getattr(agent, asked["do"])(asked)})
        except OSError as e:
            answer({"error": str(e), "errno": e.errno})
        except Exception as e:
            answer({"error": f"{type(e).__name__}: {e}"})


if __name__ == "__main__":
    serve(sys.argv[1])
