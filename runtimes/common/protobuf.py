"""The part of protobuf's wire format that is needed to find file names in a message; needs no package."""

from __future__ import annotations

from collections.abc import Iterator


def fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Field numbers and contents of a message; numbers (varints and fixed widths) are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:  # varint
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:  # bytes, or a message
                size, at = _varint(message, at)
                if size > len(message) - at:
                    raise ValueError("cut short")
                yield tag >> 3, message[at : at + size]
                at += size
            case other:
                raise ValueError(f"wire type {other}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number and where the next field starts."""
    value = 0
    for i in range(10):
        if at + i >= len(message):
            raise ValueError("cut short")
        byte = message[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError("number over 64 bits")
