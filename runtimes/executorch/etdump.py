"""Operator times from ExecuTorch's own trace of a run (ETDump).

A trace comes from a session opened with `traced`, or from a phone's runner (`--etdump_path`). Reading it
needs ExecuTorch's developer tools, which are in its package. Knows neither bundles nor graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pam_edge.core.errors import EnvironmentProblem, IntegrityError

_WHOLE = "Method::execute"
_KERNEL = "native_call_"  # in front of an operator's name
_DELEGATE = "DELEGATE_CALL"
DELEGATE = "XNNPACK"  # the only engine that our files delegate to


@dataclass(frozen=True)
class Execution:
    """One call of a file's method, in ns."""

    ns: int
    operators: dict[str, tuple[int, ...]]  # each of its calls, in order

    @property
    def rest(self) -> int:
        """What no operator accounts for."""
        return self.ns - sum(map(sum, self.operators.values()))


def executions(trace: bytes) -> tuple[Execution, ...]:
    """Every call of a trace, in order.

    Raises EnvironmentProblem where the developer tools cannot be loaded, IntegrityError for what is no trace.
    """
    try:
        from executorch.devtools.etdump.serialize import deserialize_from_etdump_flatcc
    except ImportError as e:
        raise EnvironmentProblem(
            f"ExecuTorch's developer tools cannot be imported ({e}); pip install 'pam-edge[android]'"
        ) from e
    if trace[8:12] != b"ED00":  # behind the size and the place of the root
        raise IntegrityError("this is no ETDump: its first bytes are others")
    try:
        blocks = deserialize_from_etdump_flatcc(trace).run_data
    except Exception as e:  # its parser has no error of its own
        raise IntegrityError(f"this ETDump cannot be read ({e}); record it again") from e
    found = []
    for block in blocks:
        held: dict[str, tuple[int, ...]] = {}
        for event in block.events or ():
            timed = event.profile_event
            name = _operator(timed)
            if name is not None:
                held[name] = (*held.get(name, ()), timed.end_time - timed.start_time)
            elif timed is not None and timed.name == _WHOLE:
                found.append(Execution(timed.end_time - timed.start_time, held))
                held = {}
    return tuple(found)


def _operator(timed: Any) -> str | None:
    """The operator that an event is of; None for one around others."""
    if timed is None or timed.name is None:
        return None
    if timed.name == _DELEGATE:
        return DELEGATE
    name: str = timed.name
    return name.removeprefix(_KERNEL) if name.startswith(_KERNEL) else None
