"""The training logs as a picture.

    python -m tools.nano.curves --sam run1/sam.jsonl --language run1/language.jsonl --out docs/nano-curves.png

With `--memory mem/memory.jsonl` a third row shows the memory part, and how clips are told.
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


def main() -> None:
    """Four panels, or six."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sam", type=Path, nargs="+", required=True)
    parser.add_argument("--language", type=Path, nargs="+", required=True)
    parser.add_argument("--memory", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    sam, language = rows(given.sam), rows(given.language)
    lines = 2 if given.memory is None else 3
    _, panels = plt.subplots(lines, 2, figsize=(11, 3.5 * lines), layout="constrained")
    masks = {"click_iou": "IoU, clicks", "box_iou": "IoU, boxes", "second_iou": "IoU after a correction"}
    draw(panels[0][0], sam, masks | {"object": "object score right"})
    panels[0][0].set_title("SAM part: masks (training batches)")
    draw(
        panels[0][1],
        sam,
        {"kind": "kind, mask token", "colour": "colour, mask token", "cell_kind": "kind, cells"},
    )
    panels[0][1].set_title("SAM part: helper heads, share right")
    draw(panels[1][0], language, {"answers": "cross-entropy of answers"})
    panels[1][0].set_yscale("log")
    panels[1][0].set_title("Language part: loss")
    helpers = {f"helper_{name}": f"{name}, semantic tokens" for name in ("kind", "colour", "pattern", "size")}
    draw(panels[1][1], language, {"token_right": "answer tokens"} | helpers)
    panels[1][1].set_title("Language part: share right")
    if given.memory is not None:
        followed = {
            "iou": "IoU",
            "last_iou": "IoU, last frame",
            "seen": "there, said so",
            "gone": "gone, said so",
        }
        draw(panels[2][0], rows(given.memory), followed)
        panels[2][0].set_title("Memory part: short tracks (training batches)")
        draw(panels[2][1], language, {"clip_token_right": "caption tokens right, clips"})
        panels[2][1].set_title("Language part: clips")
    plt.savefig(given.out, dpi=110)


if __name__ == "__main__":
    main()
