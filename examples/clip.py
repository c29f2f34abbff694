"""One object followed through a clip, with a caption of what happens to it at the end.

python examples/clip.py clip.mp4 --box 60,70,140,150
"""

import argparse

import pam_edge

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("source", help="a video file, or a folder of frames")
parser.add_argument("--box", required=True, help="x0,y0,x1,y1 on the first frame")
parser.add_argument("--bundle", default="nano")
given = parser.parse_args()

box = [float(v) for v in given.box.split(",")]
with pam_edge.load(given.bundle) as pam, pam.track(given.source, box=box, caption="clip") as events:
    for event in events:
        if isinstance(event, pam_edge.Frame):
            for found in event.objects:
                print(event.index, found.box if found.visible else "out of sight")
        elif isinstance(event, pam_edge.Caption):
            print(event.text)
