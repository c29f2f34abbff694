"""What rows were measured under: machine, state before and after, versions."""

from __future__ import annotations

from collections.abc import Sequence

from pam_edge.benchmarks.harness.rows import Machine, Row, State


def conditions(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """By device: name and text of each condition that is known."""
    found = {}
    for device in dict.fromkeys(row.machine.device for row in rows):
        held = [row for row in rows if row.machine.device == device]
        before = next((row.before for row in held if row.before is not None), None)
        after = next((row.after for row in reversed(held) if row.after is not None), None)
        versions = {name: version for row in held for name, version in row.versions.items()}
        entries = {
            "machine": _machine(held[-1].machine),
            "before": _state(before),
            "after": _state(after),
            "versions": ", ".join(f"{name} {v}" for name, v in sorted(versions.items())),
        }
        found[device] = {name: text for name, text in entries.items() if text}
    return found


def _machine(m: Machine) -> str:
    found = [m.model, m.cpu, f"{m.cores} cores", m.gpu, m.system, f"Python {m.python}" if m.python else None]
    if m.memory_bytes is not None:
        found.append(f"{m.memory_bytes / 2**30:.0f} GiB")
    if m.read_bytes_per_s is not None:
        found.append(f"reads {m.read_bytes_per_s / 1e9:.1f} GB/s")
    return ", ".join(text for text in found if text)


def _state(state: State | None) -> str:
    if state is None:
        return ""
    found = []
    if state.power_mode is not None:
        found.append(f"power mode {state.power_mode}")
    if state.clocks_locked is not None:
        found.append("clocks locked" if state.clocks_locked else "clocks free")
    found += [f"{name} {hz / 1e6:.0f} MHz" for name, hz in state.clocks_hz.items()]
    found += [f"{name} {degrees:.1f} C" for name, degrees in state.temperatures_c.items()]
    found += [f"{name} {watts:.1f} W" for name, watts in state.power_w.items()]
    if state.battery is not None:
        found.append(f"battery {state.battery:.0%}")
    if state.charging is not None:
        found.append("charging" if state.charging else "not charging")
    if state.throttling is not None:
        found.append(f"throttling: {state.throttling}")
    if state.free_bytes is not None:
        found.append(f"{state.free_bytes / 1e9:.1f} GB free")
    return ", ".join(found)
