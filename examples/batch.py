"""The boxes of a detector, described together: one look at the picture, words decoded as one batch.

python examples/batch.py scene.png --boxes "40,20,90,80 120,30,160,90"
"""

import argparse

import pam_edge

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("image")
parser.add_argument("--boxes", required=True, help="x0,y0,x1,y1 of each, blanks between")
parser.add_argument("--bundle", default="nano")
parser.add_argument("--out", default="batch.png")
given = parser.parse_args()

boxes = [[float(v) for v in box.split(",")] for box in given.boxes.split()]
with pam_edge.load(given.bundle) as pam:
    results = pam(given.image, boxes=boxes, task="brief")
    for number, result in enumerate(results, start=1):
        print(number, result.box, result.text)
    print("picture:", results.save(given.out))
