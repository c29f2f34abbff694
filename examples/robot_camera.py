"""A robot's or a car's camera: frames come as arrays from a driver, an object is kept in view.

python examples/robot_camera.py frames/ --point 100,80

`camera` stands for the driver (ROS, OpenCV, picamera2): a generator of uint8 arrays [h, w, 3] in RGB order.
Steering needs no words, so the tracker is driven by hand, one frame at a time; memory stays bounded however
long the camera runs.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import pam_edge

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("frames", type=Path, help="a folder of pictures in place of a camera")
parser.add_argument("--point", required=True, help="x,y on the first frame")
parser.add_argument("--bundle", default="nano")
given = parser.parse_args()


def camera() -> Iterator[np.ndarray]:
    for path in sorted(given.frames.iterdir()):
        yield np.asarray(Image.open(path).convert("RGB"))


x, y = map(float, given.point.split(","))
with pam_edge.load(given.bundle) as pam:
    tracker = pam_edge.Tracker(pam)
    prompts = {1: pam_edge.Prompt(points=((x, y, 1),))}
    for picture in camera():
        frame = tracker.step(picture, prompts)
        prompts = {}
        (found,) = frame.objects
        if found.box is None:
            print(f"{frame.index}: lost, search")
            continue
        offset = (found.box[0] + found.box[2]) / picture.shape[1] - 1  # -1 left edge, 0 middle, 1 right edge
        print(f"{frame.index}: steer {offset:+.2f}, it covers {found.mask.mean():.1%} of the view")
