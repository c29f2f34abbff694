"""A process that may write no large file: a limit on file size stands for a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 100_000  # bytes a file


def starved(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python source that can import the tests; `folder` is its argument."""
    resource = pytest.importorskip("resource")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=Path(__file__).parent,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
    )
