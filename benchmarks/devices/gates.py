"""Conditions a device must meet before it is measured: `temp<55`, `battery>50`, `charging=no`.

A device that is too hot is given time to cool down. Knows states, no device.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pam_edge.benchmarks.harness.rows import State
from pam_edge.core.errors import DeviceError, UsageError

Name = Literal["temp", "battery", "charging", "throttling", "free"]
Sign = Literal["<", ">", "="]
_GATE = re.compile(r"([a-z]+)\s*([<>=])\s*(\S+)")
_EVERY = 5.0  # seconds between looks while it cools down
_FORM = "write temp<55, battery>50, free>2 (GB), charging=no or throttling=none"


@dataclass(frozen=True)
class Gate:
    """One condition. Temperatures in degrees, battery in percent, free memory in GB."""

    name: Name
    sign: Sign
    value: str

    @property
    def text(self) -> str:
        """As it was written."""
        return f"{self.name}{self.sign}{self.value}"

    def fails(self, state: State) -> str | None:
        """Why it does not hold, None where it does."""
        found = _told(self.name, state)
        if found is None:
            return f"the device tells no {_WORDS[self.name]}, so that {self.text} cannot be checked"
        if self.sign == "=":
            return None if found == self.value else f"{_WORDS[self.name]} is {found}, not {self.value}"
        number, limit = float(found), float(self.value)
        holds = number < limit if self.sign == "<" else number > limit
        return None if holds else f"{_WORDS[self.name]} is {number:g}, the gate is {self.text}"


_WORDS: dict[Name, str] = {
    "temp": "temperature",
    "battery": "battery level",
    "charging": "charging",
    "throttling": "throttling",
    "free": "free memory",
}


def read_gates(texts: Sequence[str]) -> tuple[Gate, ...]:
    """Gates as they are written. Raises UsageError otherwise."""
    return tuple(_gate(part.strip()) for text in texts for part in text.split(","))


def wait_for(
    gates: Sequence[Gate],
    look: Callable[[], State],
    *,
    seconds: float,
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> State:
    """Look until every gate holds; the state then. Raises DeviceError after `seconds`."""
    ends = now() + seconds
    said = False
    while True:
        state = look()
        reasons = [reason for gate in gates if (reason := gate.fails(state)) is not None]
        if not reasons:
            return state
        if now() >= ends or any("cannot be checked" in reason for reason in reasons):
            raise DeviceError(f"{'; '.join(reasons)} (waited at most {seconds:.0f} s)")
        if not said:
            tell(f"waiting: {'; '.join(reasons)}")
            said = True
        sleep(_EVERY)


def _gate(text: str) -> Gate:
    match = _GATE.fullmatch(text)
    if match is None:
        raise UsageError(f"--gate {text!r}: {_FORM}")
    name, sign, value = match.groups()
    for known in get_args(Name):
        if name == known:
            break
    else:
        raise UsageError(f"--gate {text!r}: {name} is unknown; {_FORM}")
    in_words = known in ("charging", "throttling")
    if in_words != (sign == "="):
        raise UsageError(f"--gate {text!r}: {known} takes {'=' if in_words else '< or >'}; {_FORM}")
    if not in_words:
        try:
            float(value)
        except ValueError:
            raise UsageError(f"--gate {text!r}: {value} is no number; {_FORM}") from None
    elif known == "charging" and value not in ("yes", "no"):
        raise UsageError(f"--gate {text!r}: charging is yes or no")
    signs: dict[str, Sign] = {"<": "<", ">": ">", "=": "="}
    return Gate(known, signs[sign], value)


def _told(name: Name, state: State) -> str | None:
    """What a state says of it, None for nothing."""
    match name:
        case "temp":
            return str(max(state.temperatures_c.values())) if state.temperatures_c else None
        case "battery":
            return None if state.battery is None else str(100 * state.battery)
        case "charging":
            return None if state.charging is None else "yes" if state.charging else "no"
        case "throttling":
            return state.throttling
        case "free":
            return None if state.free_bytes is None else str(state.free_bytes / 1e9)
