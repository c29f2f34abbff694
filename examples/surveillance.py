"""A camera's clip as a log of events: when an object leaves, when it is back, what happened in each segment.

python examples/surveillance.py gate.mp4 --box 60,70,140,150 > events.jsonl

One JSON line an event, with the frame it happened on, so that the log can be searched.
"""

import argparse
import json

import pam_edge

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("source", help="a video file, a folder of frames, a camera's device, or - for a pipe")
parser.add_argument("--box", action="append", required=True, help="x0,y0,x1,y1; once for each object")
parser.add_argument("--bundle", default="nano")
given = parser.parse_args()


def log(**event: object) -> None:
    print(json.dumps(event, ensure_ascii=False), flush=True)


boxes = [[float(v) for v in box.split(",")] for box in given.box]
in_sight: dict[int, bool] = {}
with pam_edge.load(given.bundle) as pam:
    for event in pam.track(given.source, boxes=boxes, caption="stream", every="change"):
        if isinstance(event, pam_edge.Frame):
            for found in event.objects:
                if in_sight.get(found.object) != found.visible:
                    log(frame=event.index, object=found.object, event="in sight" if found.visible else "lost")
                in_sight[found.object] = found.visible
        elif isinstance(event, pam_edge.Caption) and not event.lost:
            log(frame=event.frames[0], until=event.frames[1], object=event.object, event=event.text)
