"""Code that a pickle would run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Bomb:
    """Whoever unpickles this runs code."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)
