"""A video's frames in reverse, from a given frame back to the first.

A file is decoded once for every group of frames that fits in memory, the last group first: any file that can
be read forwards can be read in reverse, with bounded memory. Knows no model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from pam_edge.core.errors import UsageError, prompt_too_late
from pam_edge.video.reader import PIPE, Shot, Source, folder_pictures, folder_shots, open_source

HELD = 256 << 20  # bytes of pictures at once


def open_backwards(where: str, last: int) -> Source:
    """The source whose first shot is frame `last`, counted from 0, and whose last is frame 0; times are the
    video's own. A file or a folder of pictures.

    Raises UsageError for what cannot be gone back in, and for a frame after the end (of a file: with the
    first shot), otherwise like `open_source`.
    """
    if last < 1:
        raise UsageError("from frame 0 there is nothing to go back to: point at a later one with --frame K")
    path = Path(where)
    if where != PIPE and path.is_dir():
        pictures = folder_pictures(path)
        if last >= len(pictures):
            raise prompt_too_late(last, len(pictures))
        return Source(folder_shots(pictures[last::-1]), name=str(path), count=last + 1, rate=None)
    if where == PIPE or (path.exists() and not path.is_file()):
        raise UsageError("only a file or a folder of pictures can be followed backwards: record it first")
    with open_source(where) as source:  # what is no video is told now
        name, rate = source.name, source.rate
    return Source(_stretches(where, last), name=name, count=last + 1, rate=rate)


def _stretches(where: str, last: int) -> Iterator[Shot]:
    end = last + 1
    while end > 0:
        shots = _before(where, end)
        end -= len(shots)
        while shots:
            yield shots.pop()


def _before(where: str, end: int) -> deque[Shot]:
    """The last shots before frame `end` that fit in memory."""
    held: deque[Shot] = deque()
    count = 0
    with open_source(where) as source:
        for shot in source:
            if not count:
                width, height = shot.picture.size
                held = deque(maxlen=max(1, HELD // (3 * width * height)))
            held.append(shot)
            count += 1
            if count == end:
                return held
    raise prompt_too_late(end - 1, count)
