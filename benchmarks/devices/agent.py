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

BLOCK = 1 << 20


def answer(document):  # type: ignore[no-untyped-def]
    """One line back."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def digest(path):  # type: ignore[no-untyped-def]
    """Hex sha256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as f:  # noqa: PTH123 - as plain as can be
        for block in iter(lambda: f.read(BLOCK), b""):
            found.update(block)
    return found.hexdigest()


class Agent:
    """One folder with everything in it."""

    def __init__(self, root):  # type: ignore[no-untyped-def]
        self.root = os.path.abspath(os.path.expanduser(root))  # noqa: PTH100, PTH111
        self.store = os.path.join(self.root, "store")  # noqa: PTH118
        os.makedirs(self.store, exist_ok=True)  # noqa: PTH103

    def at(self, *names):  # type: ignore[no-untyped-def]
        """A place below the root; names come from our own side and hold no way out."""
        for name in names:
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError("a place outside: " + name)
        return os.path.join(self.root, *names)  # noqa: PTH118

    def hello(self, asked):  # type: ignore[no-untyped-def]
        """What is here."""
        return {
            "python": list(sys.version_info[:2]),
            "system": platform.system(),
            "machine": platform.machine(),
            "libc": platform.libc_ver()[1],
            "free": shutil.disk_usage(self.root).free,
            "root": self.root,
        }

    def have(self, asked):  # type: ignore[no-untyped-def]
        """Of each file, how many bytes are here; -1 where it is whole."""
        found = {}
        for sha in asked["files"]:
            whole, part = self.at("store", sha), self.at("store", sha + ".part")
            if os.path.exists(whole):  # noqa: PTH110
                found[sha] = -1
            else:
                found[sha] = os.path.getsize(part) if os.path.exists(part) else 0  # noqa: PTH110, PTH202
        return found

    def put(self, asked):  # type: ignore[no-untyped-def]
        """The next bytes of a file; the last of them finish it."""
        whole, part = self.at("store", asked["sha"]), self.at("store", asked["sha"] + ".part")
        raw = sys.stdin.buffer.read(asked["bytes"])
        if len(raw) != asked["bytes"]:
            sys.exit(1)  # the other side is gone
        with open(part, "ab") as f:  # noqa: PTH123
            f.truncate(asked["offset"])
            f.write(raw)
        if asked["offset"] + len(raw) < asked["size"]:
            return {}
        if digest(part) != asked["sha"]:
            os.unlink(part)  # noqa: PTH108
            return {"error": "what arrived is not what was sent (sha256 differs); try again"}
        os.replace(part, whole)  # noqa: PTH105
        return {}

    def lay(self, asked):  # type: ignore[no-untyped-def]
        """A folder of files that are all here, whole or not at all."""
        folder = self.at(asked["folder"])
        if not os.path.isdir(folder):  # noqa: PTH112
            making = folder + ".making"
            shutil.rmtree(making, ignore_errors=True)
            os.makedirs(making)  # noqa: PTH103
            for name, sha in asked["files"].items():
                here = os.path.join(making, os.path.basename(name))  # noqa: PTH118, PTH119
                try:
                    os.link(self.at("store", sha), here)
                except OSError:  # a file system without links
                    shutil.copyfile(self.at("store", sha), here)
            os.replace(making, folder)  # noqa: PTH105
        return {"path": folder}

    def unpack(self, asked):  # type: ignore[no-untyped-def]
        """A folder to put on PYTHONPATH, of wheels that are all here."""
        folder = self.at(asked["folder"])
        if not os.path.isdir(folder):  # noqa: PTH112
            making = folder + ".making"
            shutil.rmtree(making, ignore_errors=True)
            os.makedirs(making)  # noqa: PTH103
            for sha in asked["wheels"]:
                with zipfile.ZipFile(self.at("store", sha)) as wheel:
                    wheel.extractall(making)
            os.replace(making, folder)  # noqa: PTH105
        return {"path": folder}


def serve(root):  # type: ignore[no-untyped-def]
    """Do what is asked until the pipe ends."""
    agent = Agent(root)
    for line in iter(sys.stdin.buffer.readline, b""):
        asked = json.loads(line.decode())
        try:
            answer({"result": getattr(agent, asked["do"])(asked)})
        except OSError as e:
            answer({"error": str(e), "errno": e.errno})
        except Exception as e:
            answer({"error": "%s: %s" % (type(e).__name__, e)})  # noqa: UP031


if __name__ == "__main__":
    serve(sys.argv[1])
