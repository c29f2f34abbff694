"""How much energy something took: counters where there are any, else watts that are told many times a second.

Sources, by the name that a row then carries: `package` (RAPL counters of Intel and AMD processors), `module`
(a Jetson's rails by tegrastats), `gpu` (nvidia-smi), `battery` (a phone's or laptop's own gauge, only while
it discharges). A source that is silent gives nothing; a span too short for two readings gives nothing either.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pam_edge.benchmarks.devices.jetson import read_tegrastats

_TEGRASTATS = ("tegrastats", "--interval", "100")
_SMI = ("nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "-lms", "100")
_EVERY = 0.1  # seconds


@dataclass
class Watts:
    """Readings of power with their times, and the energy between two of them."""

    points: list[tuple[int, float]] = field(default_factory=list)  # ns, watts

    def add(self, watts: float, *, at: int | None = None) -> None:
        """A reading, now unless told otherwise."""
        self.points.append((time.perf_counter_ns() if at is None else at, watts))

    def energy_uj(self, since: int, until: int) -> int | None:
        """Of a span of time: the mean of the readings in it times its length. None for fewer than two."""
        inside = [watts for at, watts in self.points if since <= at <= until]
        if len(inside) < 2:
            return None
        return round(sum(inside) / len(inside) * (until - since) / 1e3)


@dataclass(frozen=True)
class Counter:
    """A counter of microjoules that starts anew at `most`."""

    path: Path
    most: int

    def read(self) -> int | None:
        """Where it stands; None where it may not be read."""
        try:
            return int(self.path.read_text())
        except (OSError, ValueError):
            return None


def counters(powercap: Path = Path("/sys/class/powercap")) -> list[Counter]:
    """One for each processor package that may be read here."""
    found = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            if not (zone / "name").read_text().startswith("package"):
                continue
            counter = Counter(zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            continue
        if counter.read() is not None:
            found.append(counter)
    return found


class Energy:
    """Whatever of the sources speaks on this machine. Close it, or use it as a context manager."""

    def __init__(self, *, powercap: Path = Path("/sys/class/powercap")) -> None:
        self._counters = counters(powercap)
        self._streams: dict[str, Watts] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._over = threading.Event()
        self._follow("module", _TEGRASTATS, _module)
        self._follow("gpu", _SMI, _one)
        gauge = _gauge(Path("/sys/class/power_supply"))
        if gauge is not None:
            self._poll("battery", gauge)

    def begin(self) -> tuple[int, list[int | None]]:
        """A span begins."""
        return time.perf_counter_ns(), [counter.read() for counter in self._counters]

    def end(self, begun: tuple[int, list[int | None]]) -> dict[str, int]:
        """Microjoules since `begun`, by source."""
        since, before = begun
        until = time.perf_counter_ns()
        found: dict[str, int] = {}
        spent = 0
        for counter, start in zip(self._counters, before, strict=True):
            stop = counter.read()
            if start is None or stop is None:
                break
            spent += stop - start if stop >= start else stop - start + counter.most
        else:
            if self._counters:
                found["package"] = spent
        for name, watts in self._streams.items():
            taken = watts.energy_uj(since, until)
            if taken is not None:
                found[name] = taken
        return found

    def close(self) -> None:
        """End the commands that tell watts."""
        self._over.set()
        for process in self._processes:
            process.kill()
            process.wait()

    def __enter__(self) -> Energy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self, name: str, command: Sequence[str], parse: Callable[[str], float | None]) -> None:
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
            )
        except OSError:
            return
        watts = self._streams.setdefault(name, Watts())
        self._processes.append(process)

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                found = parse(line)
                if found is not None:
                    watts.add(found)

        threading.Thread(target=read, daemon=True).start()

    def _poll(self, name: str, gauge: Callable[[], float | None]) -> None:
        watts = self._streams.setdefault(name, Watts())

        def read() -> None:
            while not self._over.wait(_EVERY):
                found = gauge()
                if found is not None:
                    watts.add(found)

        threading.Thread(target=read, daemon=True).start()


def _module(line: str) -> float | None:
    tegra = read_tegrastats(line)
    return None if tegra is None else tegra.whole_w


def _one(line: str) -> float | None:
    try:
        return float(line.strip())
    except ValueError:
        return None


def _gauge(supplies: Path) -> Callable[[], float | None] | None:
    """Watts a battery gives now, None while it charges; None where there is no gauge."""
    for supply in sorted(supplies.glob("*")):
        current, volts, status = (supply / n for n in ("current_now", "voltage_now", "status"))
        if not (current.exists() and volts.exists() and status.exists()):
            continue

        def read() -> float | None:
            try:
                if status.read_text().strip() != "Discharging":  # noqa: B023 - returned at once
                    return None
                microamperes, microvolts = int(current.read_text()), int(volts.read_text())  # noqa: B023
            except (OSError, ValueError):
                return None
            return abs(microamperes) * microvolts / 1e12

        return read
    return None
