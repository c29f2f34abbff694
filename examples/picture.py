"""One picture, one click: the mask, its words, and a picture of both.

python examples/picture.py scene.png --point 62,40 --out answer.png
"""

import argparse

import pam_edge

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("image")
parser.add_argument("--point", required=True, help="x,y in pixels")
parser.add_argument("--bundle", default="nano")
parser.add_argument("--out", default="answer.png")
given = parser.parse_args()

x, y = map(float, given.point.split(","))
with pam_edge.load(given.bundle) as pam:
    stream = pam.stream(given.image, point=(x, y), tasks=["recognize", "explain"])
    print("box", stream.region.box, "score", round(stream.region.score, 3))  # there before any text
    result = stream.finish()
    for answer in result.answers:
        print(f"{answer.task}: {answer.text}")
    print("colour:", pam.ask(result, "What colour is it?"))
    print("picture:", result.save(given.out))
