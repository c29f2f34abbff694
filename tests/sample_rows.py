"""Rows of made-up measurements, for tests of what is made of rows: nothing here was measured."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from test_rows import HERE, ROW

from pam_edge.benchmarks.harness.rows import Row, Series, State, stats
from pam_edge.benchmarks.quality.schemes import Accuracy

BASE = msgspec.structs.replace(ROW, part="image", settings={"size": "0", "tokens": "32"}, threads=0)
STAGES = {"preprocess": 4, "encode": 900, "mask": 35, "perceiver": 60, "prefill": 420, "decode": 1100}


def spread(ms: float) -> tuple[int, ...]:
    """Five samples around a time."""
    return tuple(round(ms * 1e6 * factor) for factor in (0.97, 0.99, 1.0, 1.02, 1.06))


def timed(measure: str, ms: float, **changed: object) -> Row:
    samples = spread(ms)
    return msgspec.structs.replace(BASE, measure=measure, samples=samples, stats=stats(samples), **changed)


def one_click(scheme: str = "int4", device: str = "local", factor: float = 1.0) -> list[Row]:
    """A whole click of one bundle on one device."""
    machine = msgspec.structs.replace(HERE, device=device, read_bytes_per_s=36e9 / factor)
    state = State(temperatures_c={"cpu": 51.5}, power_mode="MAXN", charging=False, free_bytes=6 << 30)
    same: dict[str, object] = {"scheme": scheme, "machine": machine, "before": state, "after": state}
    rows = [timed(name, ms * factor, **same) for name, ms in STAGES.items()]
    rows += [timed("first token", 560 * factor, **same), timed("first mask", 940 * factor, **same)]
    rows.append(timed("total", sum(STAGES.values()) * factor, **same))
    size = {"int4": 0.9e9, "int8": 1.6e9, "fp32": 6.2e9}[scheme]
    speed = 0.7 * 36e9 / factor / size
    figures = {"tokens_per_s": speed, "gb_per_s": speed * size / 1e9, "bytes_per_token": size}
    rows = [msgspec.structs.replace(r, figures=figures) if r.measure == "decode" else r for r in rows]
    series = Series(
        unit="bytes",
        at_ns=tuple(n * 10**8 for n in range(40)),
        values={
            "own": tuple(min(n, 25) * 40_000_000 for n in range(40)),
            "mapped": tuple(900_000_000 if n > 8 else 50_000_000 for n in range(40)),
        },
        marks={
            "load": 5 * 10**8,
            "look": 12 * 10**8,
            "click": 22 * 10**8,
            "words": 24 * 10**8,
            "end": 38 * 10**8,
        },
    )
    peak = timed("peak memory", 1, **same, unit="bytes", series=series)
    rows.append(msgspec.structs.replace(peak, samples=(1_900_000_000,), stats=stats((1_900_000_000,))))
    return rows


def growing(part: str, axis: str, measure: str, costs: dict[int, float]) -> list[Row]:
    """One measure at several amounts of work, in ms."""
    return [
        timed(measure, ms, part=part, settings={axis: str(amount), "tokens": "32"})
        for amount, ms in costs.items()
    ]


def everything() -> list[Row]:
    """What fills every section of a report."""
    rows = [*one_click(), *one_click("int8", factor=1.3), *one_click(device="ssh:orin", factor=2.2)]
    amounts = (1, 4, 16, 64)
    rows += growing("clicks", "clicks", "total", {n: 900 + 500 * n for n in amounts})
    rows += growing("clicks", "clicks", "mask", dict.fromkeys(amounts, 35.0))
    rows += growing(
        "decode", "prompt", "prefill", {n: 0.3 * n + 0.0011 * n * n for n in (64, 256, 1024, 4096)}
    )
    lost = msgspec.structs.replace(timed("total", 1), samples=(), stats=None, error="the device went away")
    return [*rows, msgspec.structs.replace(lost, machine=msgspec.structs.replace(HERE, device="adb:pixel"))]


def accuracy(schemes: Sequence[str] = ("fp32", "int8", "int4")) -> list[Accuracy]:
    """Lines of three schemes."""
    size = {"fp32": 22_600_000, "int8": 8_200_000, "int4": 7_600_000}
    worth = {"fp32": 0.937, "int8": 0.9355, "int4": 0.9361}
    return [
        Accuracy(
            variant="nano", scheme=scheme, bundle="0" * 64, bundle_bytes=size[scheme], world=41, scenes=500,
            objects=2999, click_iou=0.894, box_iou=0.93, category=worth[scheme], host="", tools={},
        )
        for scheme in schemes
    ]  # fmt: skip
