"""What Android's services print: `dumpsys battery`, `dumpsys thermalservice`. Text in, numbers out.

Formats: AOSP's BatteryService and ThermalManagerService (their `dump`), with what makers change: Samsung's
extra lines and event log, Xiaomi's lower-case sensors, the indented blocks of Android 10. Temperatures of the
battery are in tenths of a degree; `status` 2 is charging and 5 full. Numbers under "Cached temperatures" are
old: only those that the hardware gives now count, where it gives any.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"^\s{0,4}([A-Za-z][A-Za-z ]*?)\s*:\s*(\S.*?)\s*$")
_SENSOR = re.compile(r"Temperature\{mValue=(-?[\d.]+|NaN), mType=(-?\d+), mName=([^,]+), mStatus=(\d+)\}")
_STATUS = re.compile(r"^\s*Thermal Status\s*:\s*(\d+)", re.MULTILINE)
_WORDS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_CHARGING = {"1": None, "2": True, "3": False, "4": False, "5": False}


@dataclass(frozen=True)
class Battery:
    """A phone's battery."""

    level: float | None  # 0 to 1
    charging: bool | None
    plugged: bool | None
    temperature_c: float | None
    volts: float | None


@dataclass(frozen=True)
class Thermal:
    """A phone's heat."""

    status: str | None  # in words: none, light, moderate, severe, critical, emergency, shutdown
    temperatures_c: dict[str, float]


def read_battery(text: str) -> Battery | None:
    """`dumpsys battery`; None where it is something else."""
    head, found, rest = text.partition("Current Battery Service state:")
    del head
    if not found:
        return None
    fields: dict[str, str] = {}
    for line in rest.splitlines():
        if line.startswith("["):  # an event log follows
            break
        match = _LINE.match(line)
        if match is not None:
            fields.setdefault(match[1].strip().lower(), match[2])
    level, scale = _number(fields.get("level")), _number(fields.get("scale")) or 100.0
    powered = [value == "true" for name, value in fields.items() if name.endswith(" powered")]
    tenths, millivolts = _number(fields.get("temperature")), _number(fields.get("voltage"))
    return Battery(
        level=None if level is None or level < 0 else level / scale,
        charging=_CHARGING.get(fields.get("status", "")),
        plugged=any(powered) if powered else None,
        temperature_c=None if tenths is None else tenths / 10,
        volts=None if not millivolts else millivolts / 1000 if millivolts > 100 else millivolts,
    )


def read_thermal(text: str) -> Thermal | None:
    """`dumpsys thermalservice`; None where it is something else."""
    status = _STATUS.search(text)
    _, now, live = text.partition("Current temperatures from HAL:")
    live = live.partition("Current cooling devices")[0].partition("Temperature static thresholds")[0]
    sensors = _SENSOR.findall(live) if now else []
    sensors = sensors or _SENSOR.findall(text)
    if status is None and not sensors:
        return None
    temperatures = {}
    for value, _, name, _ in sensors:
        degrees = float(value)
        if -50 < degrees < 200:  # also refuses NaN
            temperatures[name.strip().lower().removeprefix("type_")] = degrees
    number = None if status is None else int(status[1])
    return Thermal(
        status=None if number is None or number >= len(_WORDS) else _WORDS[number],
        temperatures_c=temperatures,
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
