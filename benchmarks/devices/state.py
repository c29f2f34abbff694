"""What the machine that runs this tells of itself now, from whatever it has: sysfs, a Jetson's tools,
nvidia-smi, Android's services. What none of them tells stays unknown. Linux and Android; elsewhere little.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from pam_edge.benchmarks.devices.android import read_battery, read_thermal
from pam_edge.benchmarks.devices.jetson import read_clocks, read_power_mode, read_tegrastats
from pam_edge.benchmarks.harness.rows import State
from pam_edge.core.system_info import available_memory

Run = Callable[[Sequence[str]], str]  # what a command prints, "" where it cannot be run
_SMI = "name,temperature.gpu,power.draw,clocks.sm,clocks.mem,memory.used"


def run(command: Sequence[str]) -> str:
    """What a command prints within a few seconds; "" where it is not there or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def first_line(command: Sequence[str]) -> str:
    """The first line of a command that goes on printing; "" where it is not there."""
    try:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            process.kill()
    except OSError:
        return ""
    return line


def read_state(*, root: Path = Path("/"), run: Run = run, first_line: Run = first_line) -> State:
    """Everything that is told now. `root` is where /sys and /proc lie."""
    clocks, temperatures, power = _cpu_clocks(root), _zones(root), dict[str, float]()
    governor = _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    level, charging = _supply(root)
    state = State(power_mode=governor, battery=level, charging=charging)
    tegra = read_tegrastats(first_line(["tegrastats", "--interval", "100"]))
    if tegra is not None:
        clocks |= tegra.clocks_hz
        temperatures |= tegra.temperatures_c
        power |= tegra.power_w
        state = msgspec.structs.replace(
            state, power_mode=read_power_mode(run(["nvpmodel", "-q"])) or governor
        )
        shown, locked = read_clocks(run(["jetson_clocks", "--show"]))  # tells nothing unless root asks
        clocks |= shown
        state = msgspec.structs.replace(state, clocks_locked=locked)
    gpu = read_smi(run(["nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader,nounits"]))
    for name, (degrees, watts, core, memory) in gpu.items():
        temperatures[name] = degrees
        clocks |= {name: core, f"{name} memory": memory}
        if watts is not None:
            power[name] = watts
    battery, thermal = read_battery(run(["dumpsys", "battery"])), None
    if battery is not None:
        thermal = read_thermal(run(["dumpsys", "thermalservice"]))
        state = msgspec.structs.replace(state, battery=battery.level, charging=battery.charging)
        if battery.temperature_c is not None:
            temperatures["battery"] = battery.temperature_c
    if thermal is not None:
        state = msgspec.structs.replace(state, throttling=thermal.status)
        temperatures |= thermal.temperatures_c
    return msgspec.structs.replace(
        state,
        clocks_hz=clocks,
        temperatures_c=temperatures,
        power_w=power,
        free_bytes=available_memory(proc=root / "proc", groups=root / "sys/fs/cgroup"),
    )


def read_smi(text: str) -> dict[str, tuple[float, float | None, int, int]]:
    """nvidia-smi's line a GPU: degrees, watts, clocks of cores and memory in Hz, by `gpu`, `gpu 1`, ..."""
    found = {}
    for number, line in enumerate(text.splitlines()):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 6:
            continue
        try:
            degrees, core, memory = float(cells[1]), int(cells[3]), int(cells[4])
        except ValueError:  # "[N/A]": a GPU inside a virtual machine, or a Jetson's
            continue
        watts = float(cells[2]) if re.fullmatch(r"[\d.]+", cells[2]) else None
        name = "gpu" if number == 0 else f"gpu {number}"
        found[name] = (degrees, watts, core * 1_000_000, memory * 1_000_000)
    return found


def gpu_bytes(pid: int, *, run: Run = run) -> int | None:
    """What a process holds of an NVIDIA GPU's own memory; None where there is none or it does not tell."""
    asked = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    held = 0
    for line in run(asked).splitlines():
        owner, _, size = (part.strip() for part in line.partition(","))
        if owner == str(pid) and size.isdigit():
            held += int(size) << 20
    return held or None


def board(*, root: Path = Path("/"), run: Run = run) -> str | None:
    """What the board or phone is called."""
    model = _text(root / "proc/device-tree/model")
    if model is not None:
        return model.rstrip("\0") or None
    maker, phone = run(["getprop", "ro.product.manufacturer"]), run(["getprop", "ro.product.model"])
    return " ".join(f"{maker} {phone}".split()) or None


def chip(*, root: Path = Path("/"), run: Run = run) -> str | None:
    """What the processor is called where /proc/cpuinfo has no name for it, as on ARM."""
    told = " ".join(f"{run(['getprop', 'ro.soc.manufacturer'])} {run(['getprop', 'ro.soc.model'])}".split())
    if told:
        return told
    compatible = _text(root / "proc/device-tree/compatible")
    return None if compatible is None else compatible.rstrip("\0").rpartition("\0")[2] or None


def gpu_name(*, run: Run = run) -> str | None:
    """What the first NVIDIA GPU is called."""
    lines = run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines()
    return lines[0].strip() or None if lines else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _cpu_clocks(root: Path) -> dict[str, int]:
    """The fastest core of each kind there is, in Hz."""
    found: dict[str, int] = {}
    for policy in sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*")):
        now = _number(policy / "scaling_cur_freq")
        if now is not None:
            found[policy.name.replace("policy", "cpu")] = now * 1000
    if found:
        return found
    text = _text(root / "proc/cpuinfo") or ""
    speeds = [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.MULTILINE)]
    return {"cpu": round(max(speeds) * 1e6)} if speeds else {}


def _zones(root: Path) -> dict[str, float]:
    """Sensors of sysfs by name, in degrees. Those that are off are left out."""
    found: dict[str, float] = {}
    places = [(zone / "temp", zone / "type") for zone in (root / "sys/class/thermal").glob("thermal_zone*")]
    for sensor in (root / "sys/class/hwmon").glob("hwmon*/temp*_input"):
        label = sensor.with_name(sensor.name.replace("_input", "_label"))
        places.append((sensor, label if label.exists() else sensor.with_name("name")))
    for place, named in sorted(places):
        value, name = _number(place), _text(named)
        if value is not None and name is not None and -50_000 < value < 200_000 and value:
            found[name.lower()] = value / 1000 if abs(value) >= 1000 else float(value)
    return found


def _supply(root: Path) -> tuple[float | None, bool | None]:
    """A battery's level, and whether it charges."""
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        if _text(supply / "type") == "Battery" and _text(supply / "scope") != "Device":
            level, status = _number(supply / "capacity"), _text(supply / "status")
            charging = None if status in (None, "Unknown") else status == "Charging"
            return None if level is None else level / 100, charging
    return None, None
