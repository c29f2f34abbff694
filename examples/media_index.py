"""A folder of pictures as a searchable index: one JSON line a region, and a search in their words.

python examples/media_index.py photos/ --index index.jsonl
python examples/media_index.py photos/ --index index.jsonl --search "red chair"

Regions come from a grid of clicks; masks that are nearly the same are kept once. With a detector, give its
boxes instead: `pam(picture, boxes=...)`.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import pam_edge

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path)
parser.add_argument("--index", type=Path, default=Path("index.jsonl"))
parser.add_argument("--search", help="words that a region's text has to hold")
parser.add_argument("--grid", type=int, default=4, help="clicks a side")
parser.add_argument("--bundle", default="nano")
given = parser.parse_args()


def regions(pam: pam_edge.Model, seen: pam_edge.Seen) -> list[pam_edge.Region]:
    height, width = seen.size
    kept: list[pam_edge.Region] = []
    for row in range(given.grid):
        for column in range(given.grid):
            point = ((column + 0.5) * width / given.grid, (row + 0.5) * height / given.grid)
            region = pam.segment(seen, point=point)
            overlaps = [(region.mask & k.mask).sum() / max(1, (region.mask | k.mask).sum()) for k in kept]
            if region.box is not None and region.score > 0.8 and max(overlaps, default=0) < 0.5:
                kept.append(region)
    return kept


if given.search is None:
    with pam_edge.load(given.bundle) as pam, given.index.open("w", encoding="utf-8") as lines:
        for path in sorted(
            p for p in given.folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg")
        ):
            seen = pam.look(path)
            found = regions(pam, seen)
            boxes = [region.box for region in found if region.box is not None]
            for result in pam(seen, boxes=boxes, task="brief"):
                line = {
                    "picture": path.name,
                    "text": result.text,
                    "share": round(float(np.mean(result.mask)), 4),
                }
                lines.write(json.dumps({**line, "box": result.box}, ensure_ascii=False) + "\n")
            print(path.name, len(boxes), "regions")
else:
    words = given.search.lower().split()
    for line in map(json.loads, given.index.read_text(encoding="utf-8").splitlines()):
        if all(word in line["text"].lower() for word in words):
            print(line["picture"], line["box"], line["text"])
