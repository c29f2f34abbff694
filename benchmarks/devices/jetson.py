"""What a Jetson's own tools print: tegrastats, nvpmodel, jetson_clocks. Text in, numbers out; runs nothing.

Formats: NVIDIA's Jetson Linux Developer Guide, "tegrastats Utility" (r32 to r36) and "nvpmodel"; they differ
by board and release in fields, units and case, so that only shapes are relied on, never an order. Rails are
`NAME now/average`, in mW with or without the unit. A sensor that is off says -256 C, or 100 C for PMIC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_RAM = re.compile(r"\bRAM (\d+)/(\d+)(kB|MB)")
_GPU = re.compile(r"\bGR3D(?:_FREQ)? (\d+)%(?:@\[?(\d+))?")
_MEMORY = re.compile(r"\bEMC(?:_FREQ)? (\d+)%(?:@(\d+))?")
_CPUS = re.compile(r"\bCPU \[([^\]]*)\]")
_CORE = re.compile(r"\d+%@(\d+)")
_TEMPERATURE = re.compile(r"\b([A-Za-z][A-Za-z0-9_]*)@(-?\d+(?:\.\d+)?)C\b")
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?=\s|$)")
# A rail that feeds the whole module, by board; else the sum of what feeds its parts.
_WHOLE = ("VDD_IN", "POM_5V_IN", "VIN")
_PARTS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
_NO_RAILS = ("RAM", "SWAP", "IRAM", "NC")
_MODE = re.compile(r"NV Power Mode\s*:\s*(\S.*?)\s*$", re.MULTILINE)
_CPU_LINE = re.compile(r"^cpu\d+\s*:.*?MinFreq=(\d+) MaxFreq=(\d+) CurrentFreq=(\d+)", re.MULTILINE)
_GPU_LINE = re.compile(r"^GPU MinFreq=(\d+) MaxFreq=(\d+) CurrentFreq=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Tegra:
    """One line of tegrastats."""

    ram_used: int | None  # bytes
    ram_total: int | None
    gpu_share: float | None  # busy, 0 to 1
    clocks_hz: dict[str, int]  # cpu: the fastest core; gpu, memory where they are told
    temperatures_c: dict[str, float]  # by sensor, lower case; those that are off are left out
    power_w: dict[str, float]  # now, by rail

    @property
    def whole_w(self) -> float | None:
        """What the module takes now; None where the rails do not tell."""
        return whole_power(self.power_w)


def whole_power(rails: Mapping[str, float]) -> float | None:
    """Watts of the whole module from its rails."""
    for name in _WHOLE:
        if name in rails:
            return rails[name]
    for names in _PARTS:
        if all(name in rails for name in names):
            return sum(rails[name] for name in names)
    return None


def read_tegrastats(line: str) -> Tegra | None:
    """One line; None where it is not one of tegrastats'."""
    ram = _RAM.search(line)
    if ram is None:
        return None
    unit = 1024 if ram[3] == "kB" else 1 << 20
    clocks: dict[str, int] = {}
    cpus = _CPUS.search(line)
    if cpus is not None and (cores := _CORE.findall(cpus[1])):
        clocks["cpu"] = max(map(int, cores)) * 1_000_000
    gpu, memory = _GPU.search(line), _MEMORY.search(line)
    for name, match in (("gpu", gpu), ("memory", memory)):
        if match is not None and match[2] is not None:
            clocks[name] = int(match[2]) * 1_000_000
    return Tegra(
        ram_used=int(ram[1]) * unit,
        ram_total=int(ram[2]) * unit,
        gpu_share=None if gpu is None else int(gpu[1]) / 100,
        clocks_hz=clocks,
        temperatures_c={
            name.lower(): float(value)
            for name, value in _TEMPERATURE.findall(line)
            if float(value) > -200 and (name, float(value)) != ("PMIC", 100.0)
        },
        power_w={name: int(now) / 1000 for name, now, _ in _RAIL.findall(line) if name not in _NO_RAILS},
    )


def read_power_mode(text: str) -> str | None:
    """nvpmodel's current mode by name, from `nvpmodel -q` with or without `--verbose`."""
    found = _MODE.search(text)
    return None if found is None else found[1]


def read_clocks(text: str) -> tuple[dict[str, int], bool | None]:
    """`jetson_clocks --show`: clocks in Hz (cpu, gpu, memory), and whether they are locked: every processor
    and the GPU at one frequency from least to most. None where it does not tell.
    """
    clocks: dict[str, int] = {}
    spans = [(int(a), int(b), int(c)) for a, b, c in _CPU_LINE.findall(text)]
    if spans:
        clocks["cpu"] = max(now for _, _, now in spans) * 1000
    gpu = _GPU_LINE.search(text)
    if gpu is not None:
        spans.append((int(gpu[1]), int(gpu[2]), int(gpu[3])))
        clocks["gpu"] = int(gpu[3])
    memory = re.search(r"^EMC MinFreq=(\d+) MaxFreq=(\d+) CurrentFreq=(\d+)", text, re.MULTILINE)
    if memory is not None:
        clocks["memory"] = int(memory[3])
    return clocks, all(low == high for low, high, _ in spans) if spans else None
