"""The training logs as a picture.

    python -m tools.nano.curves --sam run1/sam.jsonl --language run1/language.jsonl --out docs/nano-curves.png

`--memory mem/memory.jsonl` shows the memory part; any of the three may be left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes


def rows(paths: list[Path]) -> list[dict[str, Any]]:
    """JSON-lines logs as one; where a run went on from an earlier step, a step's later line counts."""
    joined: list[dict[str, Any]] = []
    for path in paths:
        before = joined[-1]["step"] if joined else 0
        lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        latest = {line["step"]: line for line in lines}
        joined += [line | {"step": before + step} for step, line in sorted(latest.items())]
    return joined


def draw(axes: Axes, log: list[dict[str, Any]], names: dict[str, str]) -> None:
    """One panel: figures over steps."""
    for name, label in names.items():
        points = [(row["step"], row[name]) for row in log if name in row]
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, linewidth=1)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


SAM = (
    (
        "SAM part: masks (training batches)",
        {
            "click_iou": "IoU, clicks",
            "box_iou": "IoU, boxes",
            "second_iou": "IoU after a correction",
            "object": "object score right",
        },
    ),
    (
        "SAM part: helper heads, share right",
        {"kind": "kind, mask token", "colour": "colour, mask token", "cell_kind": "kind, cells"},
    ),
)
MEMORY = (
    (
        "Memory part: short tracks (training batches)",
        {"iou": "IoU", "last_iou": "IoU, last frame", "seen": "there, said so", "gone": "gone, said so"},
    ),
    ("Memory part: loss", {"loss": "loss"}),
)
LANGUAGE = (
    (
        "Language part: cross-entropy",
        {"answers": "answers about pictures", "clip_answers": "captions of clips"},
    ),
    (
        "Language part: share right",
        {
            "token_right": "answer tokens",
            "clip_token_right": "caption tokens, clips",
            "event_right": "event, behind a clip's last frame",
        }
        | {f"helper_{name}": f"{name}, semantic tokens" for name in ("kind", "colour", "pattern", "size")},
    ),
)


def main() -> None:
    """Two panels for each part whose logs are given."""
    parser = argparse.ArgumentParser(description=__doc__)
    for part in ("sam", "memory", "language"):
        parser.add_argument(f"--{part}", type=Path, nargs="+", default=[])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    parts = [(given.sam, SAM), (given.memory, MEMORY), (given.language, LANGUAGE)]
    shown = [(rows(logs), panels) for logs, panels in parts if logs]
    if not shown:
        parser.error("give the logs of one part at least")
    _, axes = plt.subplots(len(shown), 2, figsize=(11, 3.5 * len(shown)), layout="constrained", squeeze=False)
    for line, (log, panels) in zip(axes, shown, strict=True):
        for panel, (title, names) in zip(line, panels, strict=True):
            draw(panel, log, names)
            panel.set_title(title)
            if title.endswith(("loss", "cross-entropy")):
                panel.set_yscale("log")
    plt.savefig(given.out, dpi=110)


if __name__ == "__main__":
    main()
