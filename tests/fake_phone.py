"""A phone for the real adb client: the device's side of adb's wire protocol on a TCP port, and nothing else.

After AOSP's `protocol.txt`, `SERVICES.TXT` and `SYNC.TXT` in packages/modules/adb: the messages CNXN, AUTH,
OPEN, OKAY, WRTE and CLSE; the services `shell,v2,raw:` and `sync:` (STAT, SEND). Commands run in this
machine's shell, with the phone's own programs in front of PATH; files go where they are sent.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import threading
from pathlib import Path

_MOST = 256 * 1024
_HEAD = struct.Struct("<6I")
_AUTH_TOKEN, _AUTH_KEY = 1, 3


def _code(name: bytes) -> int:
    return int.from_bytes(name, "little")


CNXN, AUTH, OPEN, OKAY, WRTE, CLSE = map(_code, (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE"))


class FakePhone:
    """Listens on `port` until it is closed. `authorized` False asks for a key and never accepts one."""

    def __init__(self, root: Path, *, authorized: bool = True) -> None:
        self.root, self.authorized = root, authorized
        self.commands: list[str] = []
        (root / "bin").mkdir(parents=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def say(self, command: str, text: str) -> None:
        """A program of the phone that prints `text`."""
        program = self.root / "bin" / command
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        program.chmod(0o755)

    def unplug(self) -> None:
        """The phone is gone, at once."""
        for link in (
            self._listener,
            *self._links,
        ):  # shut down first: a thread that waits would keep it alive
            _cut(link)

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self._links.append(link)
            threading.Thread(target=_Transport(self, link).run, daemon=True).start()


def _cut(link: socket.socket) -> None:
    try:
        link.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
    finally:
        link.close()


class _Transport:
    """One connection of an adb server."""

    def __init__(self, phone: FakePhone, link: socket.socket) -> None:
        self.phone, self.link = phone, link
        self.lock, self.streams, self.next = threading.Lock(), dict[int, _Stream](), 1

    def send(self, command: int, a: int, b: int, raw: bytes = b"") -> None:
        check = sum(raw) & 0xFFFFFFFF
        with self.lock:
            self.link.sendall(_HEAD.pack(command, a, b, len(raw), check, command ^ 0xFFFFFFFF) + raw)

    def run(self) -> None:
        try:
            while (head := _exactly(self.link, _HEAD.size)) is not None:
                command, a, b, size, _, _ = _HEAD.unpack(head)
                raw = _exactly(self.link, size) or b""
                self._take(command, a, b, raw)
        except OSError:
            pass
        for stream in list(self.streams.values()):
            stream.gone()

    def _take(self, command: int, a: int, b: int, raw: bytes) -> None:
        if command == CNXN or (command == AUTH and not self.phone.authorized):
            if not self.phone.authorized:
                self.send(AUTH, _AUTH_TOKEN, 0, bytes(20)) if a != _AUTH_KEY else None
                return
            banner = b"device::ro.product.name=fake;ro.product.model=Fake;features=shell_v2"
            self.send(CNXN, 0x01000001, _MOST, banner)
        elif command == OPEN:
            number, self.next = self.next, self.next + 1
            stream = _Stream(self, number, a)
            self.streams[number] = stream
            stream.open(raw.rstrip(b"\0").decode())
        elif (stream_ := self.streams.get(b)) is None:
            if command != CLSE:
                self.send(CLSE, 0, a)
        elif command == OKAY:
            stream_.ready.set()
        elif command == WRTE:
            self.send(OKAY, b, a)
            stream_.take(raw)
        elif command == CLSE:
            del self.streams[b]
            stream_.gone()


class _Stream:
    """One service over a transport."""

    def __init__(self, transport: _Transport, mine: int, theirs: int) -> None:
        self.transport, self.mine, self.theirs = transport, mine, theirs
        self.ready, self.closed = threading.Event(), False
        self.process: subprocess.Popen[bytes] | None = None
        self.held = b""
        self.file: Path | None = None
        self.sync = False

    def open(self, service: str) -> None:
        kind, _, command = service.partition(":")
        if kind == "sync":
            self.sync = True
        elif kind.startswith("shell,v2"):
            self.transport.phone.commands.append(command)
            phone = self.transport.phone
            path = f"{phone.root}/bin:{os.environ['PATH']}"
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PATH": path},
                cwd=phone.root,
            )
        else:
            self.transport.send(CLSE, 0, self.theirs)
            return
        self.transport.send(OKAY, self.mine, self.theirs)
        self.ready.set()
        if self.process is not None:
            threading.Thread(target=self._shell, daemon=True).start()

    def write(self, raw: bytes) -> None:
        for start in range(0, len(raw), _MOST):
            self.ready.wait()
            self.ready.clear()
            if not self.closed:
                self.transport.send(WRTE, self.mine, self.theirs, raw[start : start + _MOST])

    def gone(self) -> None:
        self.closed = True
        self.ready.set()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()

    def take(self, raw: bytes) -> None:
        self.held += raw
        if self.sync:
            while self._sync():
                pass
            return
        assert self.process is not None and self.process.stdin is not None
        while len(self.held) >= 5:
            kind, size = self.held[0], int.from_bytes(self.held[1:5], "little")
            if len(self.held) < 5 + size:
                return
            part, self.held = self.held[5 : 5 + size], self.held[5 + size :]
            try:
                if kind == 0:
                    self.process.stdin.write(part)
                    self.process.stdin.flush()
                elif kind == 4:  # the other side closed its input
                    self.process.stdin.close()
            except OSError:
                return

    def _shell(self) -> None:
        process = self.process
        assert process is not None and process.stdout is not None and process.stderr is not None
        errors = threading.Thread(target=self._pump, args=(2, process.stderr.fileno()), daemon=True)
        errors.start()
        self._pump(1, process.stdout.fileno())
        errors.join()
        self.write(struct.pack("<BIB", 3, 1, process.wait() & 0xFF))
        self.ready.wait()
        if not self.closed:
            self.transport.send(CLSE, self.mine, self.theirs)

    def _pump(self, kind: int, source: int) -> None:
        while part := os.read(source, 65536):
            with _ORDER:
                self.write(struct.pack("<BI", kind, len(part)) + part)

    def _sync(self) -> bool:
        """One request of the sync service; False where it is not whole yet."""
        if len(self.held) < 8:
            return False
        name, size = self.held[:4], int.from_bytes(self.held[4:8], "little")
        if name == b"QUIT":
            self.transport.send(CLSE, self.mine, self.theirs)
            return False
        if name == b"DONE":
            self.held = self.held[8:]
            self.file = None
            self.write(b"OKAY" + bytes(4))
            return True
        if len(self.held) < 8 + size:
            return False
        body, self.held = self.held[8 : 8 + size], self.held[8 + size :]
        if name == b"STAT":
            place = Path(body.decode())
            found = place.stat() if place.exists() else None
            numbers = (0, 0, 0) if found is None else (found.st_mode, found.st_size, int(found.st_mtime))
            self.write(b"STAT" + struct.pack("<3I", *numbers))
        elif name == b"SEND":
            place = Path(body.decode().rpartition(",")[0])
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"")
            place.chmod(stat.S_IRUSR | stat.S_IWUSR)
            self.file = place
        elif name == b"DATA":
            assert self.file is not None
            with self.file.open("ab") as f:
                f.write(body)
        return True


_ORDER = threading.Lock()


def _exactly(link: socket.socket, size: int) -> bytes | None:
    found = b""
    while len(found) < size:
        part = link.recv(size - len(found))
        if not part:
            return None
        found += part
    return found
