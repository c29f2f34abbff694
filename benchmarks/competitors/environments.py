"""Where a peer's packages lie: an environment of its own in the cache folder, made once, whole or not at all.

Versions and hashes are in `locks/`. A Python peer's environment has this one's packages behind its own, so
that what is the same for both sides (numpy, onnxruntime, torch) is the same files, and workers can import
this package; what the runtime's own lock holds is therefore not in a peer's. Knows no peer.
"""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pam_edge.benchmarks.competitors.pins import Pin
from pam_edge.core.errors import EnvironmentProblem

_SECONDS = 1800  # a download that takes longer is stuck
_READY = "ready"
_LOCKS = Path(__file__).parent / "locks"


def environment(pin: Pin, cache: Path) -> Path:
    """The folder that holds a peer's packages, made now where it is not there.

    Raises EnvironmentProblem with the installer's last words where it fails.
    """
    folder = cache / "environments" / pin.name
    locks = _locks(pin)
    wanted = "\n".join(path.read_text(encoding="utf-8") for path in locks)
    mark = folder / _READY
    if mark.is_file() and mark.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    match pin.registry:
        case "pip":
            _run([sys.executable, "-m", "venv", str(folder)], pin)
            _add_ours(folder)
            locked = ["--no-deps", "--require-hashes", "--requirement", str(locks[0])]
            _run([str(python(folder)), "-m", "pip", "install", "--quiet", *locked], pin)
        case "npm":
            npm = shutil.which("npm")
            if npm is None:
                raise EnvironmentProblem(f"{pin.name} comes from npm, which is not on this machine")
            folder.mkdir()
            for path in locks:
                shutil.copy(path, folder)
            _run([npm, "ci", "--silent", "--ignore-scripts", "--prefix", str(folder)], pin)
        case "none":
            folder.mkdir()
    mark.write_text(wanted)
    return folder


def python(folder: Path) -> Path:
    """The interpreter of a Python peer's environment."""
    return folder / "bin" / "python"


def _locks(pin: Pin) -> list[Path]:
    """Files that fix what is installed for a peer."""
    match pin.registry:
        case "pip":
            return [_LOCKS / f"{pin.name}.txt"]
        case "npm":
            return [_LOCKS / pin.name / name for name in ("package-lock.json", "package.json")]
        case "none":
            return []


def _add_ours(folder: Path) -> None:
    (packages,) = (folder / "lib").glob("python*/site-packages")
    lines = [f"import site; site.addsitedir({ours!r})\n" for ours in site.getsitepackages()]
    (packages / "behind.pth").write_text("".join(lines))


def _run(command: Sequence[str], pin: Pin) -> None:
    with tempfile.TemporaryFile() as words:
        try:
            code = subprocess.run(command, stdout=words, stderr=words, timeout=_SECONDS).returncode
        except (OSError, subprocess.TimeoutExpired) as e:
            raise EnvironmentProblem(f"{pin.name} cannot be installed: {e}") from e
        words.seek(0)
        said = words.read().decode(errors="replace").strip()
    if code != 0:
        raise EnvironmentProblem(f"{pin.name} cannot be installed: {said[-600:] or f'exit code {code}'}")
