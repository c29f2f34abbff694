"""Run a command whose ONNX Runtime sees an older processor: its kernels for AVX2, at the machine's own speed.

    python tools/cpus/hide.py [--from vnni] -- python -m pytest tests/test_packaged.py

ONNX Runtime chooses its kernels by cpuid and has no switch for it. Here its library is copied, each cpuid in
the copy is replaced by an instruction that raises a signal, and a preloaded handler (hide.c) answers it with
feature bits cleared: `--from avx512`, the default, leaves AVX2; `--from vnni` leaves AVX-512 without VNNI.
Only ONNX Runtime is deceived, in the command and its children. The real processor does the work: results are
those of the older kernels, timings those of the older kernels on this processor. PAM_EDGE_CPU_KIND tells
pam-edge what is left, so that what it writes down about the CPU is true. For Linux on x86-64; needs gcc and
binutils.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LEVELS = {"avx512": "x86-64: avx2", "vnni": "x86-64: avx512"}  # hidden from here on: the kind that is left
_SOURCE = Path(__file__).with_name("hide.c")
_CPUID, _UD1 = b"\x0f\xa2", b"\x0f\xb9"
_AT = re.compile(r"^\s*([0-9a-f]+):\s+cpuid\s*$", re.MULTILINE)
_LOAD = re.compile(r"^\s*LOAD\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)", re.MULTILINE)


def environment(
    folder: Path, level: str = "avx512", *, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Environment variables for a command that shall use the copy in `folder` (see `prepare`).

    Raises ValueError where `level` is none of LEVELS.
    """
    if level not in LEVELS:
        raise ValueError(f"level {level!r} is none of {', '.join(LEVELS)}")
    known = dict(os.environ if base is None else base)
    paths = [str(folder / "site"), known.get("PYTHONPATH", "")]
    known["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    known["LD_PRELOAD"] = str(folder / "hide.so")
    known["HIDE_FROM"] = level
    known["PAM_EDGE_CPU_KIND"] = LEVELS[level]
    return known


def prepare(cache: Path) -> Path:
    """A folder in `cache` with the handler and a patched copy of this Python's ONNX Runtime; made once.

    Raises RuntimeError where a tool is missing or the library holds no cpuid.
    """
    found = importlib.util.find_spec("onnxruntime")
    if found is None or found.origin is None:
        raise RuntimeError("onnxruntime is not installed in this Python")
    package = Path(found.origin).parent
    if package.parent.parent.name.startswith("hidden-"):
        raise RuntimeError("this Python's onnxruntime is already a patched copy: unset PYTHONPATH")
    library = next((package / "capi").glob("onnxruntime_pybind11_state*.so"))
    key = hashlib.sha256(_SOURCE.read_bytes() + Path(__file__).read_bytes() + str(library).encode())
    key.update(f"{library.stat().st_size} {library.stat().st_mtime_ns}".encode())
    folder = cache / f"hidden-{key.hexdigest()[:12]}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
    try:
        _run(
            [
                "gcc",
                "-O2",
                "-Wall",
                "-Wextra",
                "-shared",
                "-fPIC",
                "-o",
                str(making / "hide.so"),
                str(_SOURCE),
                "-ldl",
            ]
        )
        _copy(package, making / "site" / "onnxruntime", library)
        making.chmod(0o755)
        making.rename(folder)
    except FileExistsError:  # another process was faster
        pass
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def patched(content: bytes, offsets: Sequence[int]) -> bytes:
    """`content` with the cpuid at each file offset replaced. Raises RuntimeError where there is none."""
    changed = bytearray(content)
    for at in offsets:
        if changed[at : at + 2] != _CPUID:
            raise RuntimeError(f"no cpuid at file offset {at:#x}")
        changed[at : at + 2] = _UD1
    return bytes(changed)


def cpuid_offsets(library: Path) -> list[int]:
    """File offsets of a library's cpuid instructions, by disassembly: the same bytes in data are not code."""
    code = _run(["objdump", "-d", "--no-show-raw-insn", str(library)])
    headers = _run(["readelf", "-lW", str(library)])
    segments = [tuple(int(number, 16) for number in row) for row in _LOAD.findall(headers)]
    found = []
    for word in _AT.findall(code):
        address = int(word, 16)
        inside = [at + address - start for at, start, size in segments if start <= address < start + size]
        if len(inside) != 1:
            raise RuntimeError(f"address {address:#x} lies in {len(inside)} segments of {library}")
        found += inside
    if not found:
        raise RuntimeError(f"{library} has no cpuid instruction")
    return found


def _copy(package: Path, to: Path, library: Path) -> None:
    """The package in links, but for the folder of the library and the library itself."""
    inside = to / library.parent.name
    inside.mkdir(parents=True)
    for source in package.iterdir():
        if source.name not in (library.parent.name, "__pycache__"):
            (to / source.name).symlink_to(source)
    for source in library.parent.iterdir():
        if source != library and source.name != "__pycache__":
            (inside / source.name).symlink_to(source)
    (inside / library.name).write_bytes(patched(library.read_bytes(), cpuid_offsets(library)))


def _run(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is missing: apt-get install gcc binutils")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-400:]}")
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare and become the command; returns only where that failed."""
    parser = argparse.ArgumentParser(prog="hide.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--from", dest="level", choices=LEVELS, default="avx512", help="lowest level to hide")
    parser.add_argument("command", nargs="+", help="after --")
    given = parser.parse_args(argv)
    try:
        folder = prepare(Path.home() / ".cache" / "pam-edge")
    except RuntimeError as e:
        print(f"hide.py: {e}", file=sys.stderr)  # noqa: T201 - a command of its own
        return 1
    os.execvpe(given.command[0], given.command, environment(folder, given.level))
    return 1  # not reached


if __name__ == "__main__":
    sys.exit(main())
