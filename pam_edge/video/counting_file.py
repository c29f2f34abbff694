"""A file object that counts the bytes read from it."""

from __future__ import annotations

from typing import IO


class Counted:
    """A file as PyAV reads it, with the number of bytes there were up to the furthest it came."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.name = str(getattr(file, "name", ""))
        self._at = self.bytes = 0
        if file.seekable():
            self.seek, self.tell = self._seek, file.tell

    def read(self, size: int) -> bytes:
        """As the file's."""
        data = self._file.read(size)
        self._at += len(data)
        self.bytes = max(self.bytes, self._at)
        return data

    def close(self) -> None:
        """As the file's."""
        self._file.close()

    def _seek(self, offset: int, whence: int = 0) -> int:
        self._at = self._file.seek(offset, whence)
        return self._at
