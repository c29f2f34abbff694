"""Install the programs that tests need and pip does not bring; on Debian and Ubuntu, as root (`make system`).

    python tools/system_packages.py [--allow-missing] [PROGRAM ...]

Elsewhere, or for another user, it says what is missing and how to get it, and ends with 1 (with
--allow-missing: 0). What is there already is left alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """What is looked for on PATH, the Debian packages that bring it, and what asks for it."""

    name: str
    packages: tuple[str, ...]
    needed_by: str


PROGRAMS = (
    Program("sshd", ("openssh-server", "openssh-client"), "tests/test_ssh.py"),
    Program("adb", ("adb",), "tests/test_adb.py"),
    Program("java", ("default-jre-headless",), "METEOR, tests/test_quality_metrics.py"),
    Program("qemu-x86_64-static", ("qemu-user-static",), "tests/test_other_cpus.py"),
    Program("qemu-aarch64-static", ("qemu-user-static",), "make test-cpus"),
    Program("gcc", ("gcc", "libc6-dev"), "tests/test_other_cpus.py"),
    Program("objdump", ("binutils",), "tests/test_other_cpus.py"),
)
_WHERE = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))  # sshd: not on a user's PATH


def missing(names: Sequence[str]) -> list[Program]:
    """Programs that are not here; of those named, or of all."""
    wanted = [program for program in PROGRAMS if not names or program.name in names]
    return [program for program in wanted if shutil.which(program.name, path=_WHERE) is None]


def command(programs: Sequence[Program]) -> list[str]:
    """What installs them on Debian and Ubuntu."""
    packages = sorted({package for program in programs for package in program.packages})
    return ["apt-get", "install", "--yes", "--no-install-recommends", *packages]


def main(argv: Sequence[str] | None = None) -> int:
    """Install what is missing, or say so; returns 1 where something stays missing."""
    parser = argparse.ArgumentParser(prog="system_packages", description="Install programs that tests need.")
    parser.add_argument("programs", nargs="*", help="of: " + " ".join(program.name for program in PROGRAMS))
    parser.add_argument("--allow-missing", action="store_true")
    given = parser.parse_args(argv)
    unknown = set(given.programs) - {program.name for program in PROGRAMS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    lacking = missing(given.programs)
    if not lacking:
        return 0
    _say("missing: " + "; ".join(f"{program.name} ({program.needed_by})" for program in lacking))
    if shutil.which("apt-get") is None:
        _say("install them with this system's package manager")
    elif os.geteuid() != 0:
        _say(f"install them: sudo {' '.join(command(lacking))}")
    else:
        settings = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["apt-get", "update"], command(lacking)):
            subprocess.run(words, env=settings, check=False, stdin=subprocess.DEVNULL)
        lacking = missing(given.programs)
        if not lacking:
            return 0
        _say(f"still missing: {', '.join(program.name for program in lacking)}")
    if given.allow_missing:
        return 0
    _say("or leave their tests out: make test NO_SKIP=0")
    return 1


def _say(text: str) -> None:
    print(f"system packages: {text}", file=sys.stderr)  # noqa: T201 - a command of its own


if __name__ == "__main__":
    sys.exit(main())
