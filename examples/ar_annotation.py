"""Augmented reality: the camera never waits. The newest frame wins, a click asks, mask and words lie over it.

python examples/ar_annotation.py frames/ --click 3:100,80 --out overlay/

A camera thread leaves its newest frame in a box of one place; the loop takes what is there, so frames that
came meanwhile are passed over. A click starts a track; its words come from a second thread, and appear when
they are ready.
"""

import argparse
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

import pam_edge

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("frames", type=Path, help="a folder of pictures in place of a camera")
parser.add_argument("--rate", type=float, default=10, help="frames a second of the camera")
parser.add_argument("--click", default="0:100,80", help="from which frame on, and where: K:x,y")
parser.add_argument("--bundle", default="nano")
parser.add_argument("--out", type=Path, default=Path("overlay"))
given = parser.parse_args()

newest: queue.Queue[tuple[int, np.ndarray] | None] = queue.Queue(maxsize=1)


def put(item: tuple[int, np.ndarray] | None) -> None:
    while True:
        try:
            return newest.put_nowait(item)
        except queue.Full:
            with suppress(queue.Empty):
                newest.get_nowait()  # nobody wants it any more


def camera() -> None:
    for index, path in enumerate(sorted(given.frames.iterdir())):
        put((index, np.asarray(Image.open(path).convert("RGB"))))
        time.sleep(1 / given.rate)
    while not newest.empty():  # the last frame is shown, too
        time.sleep(0.01)
    put(None)


start, _, place = given.click.partition(":")
x, y = map(float, place.split(","))
given.out.mkdir(parents=True, exist_ok=True)
with pam_edge.load(given.bundle) as pam, ThreadPoolExecutor(1) as background:
    tracker, text = pam_edge.Tracker(pam), None
    threading.Thread(target=camera, daemon=True).start()
    words: Future[pam_edge.Result] | None = None
    shown = 0
    while (item := newest.get()) is not None:
        index, picture = item
        if index < int(start):
            continue
        first = words is None
        frame = tracker.step(picture, {1: pam_edge.Prompt(points=((x, y, 1),))} if first else None, at=index)
        if words is None:
            words = background.submit(pam, picture, point=(x, y), task="brief")
        if text is None and words.done():
            text = words.result().text
            print(f"frame {index}: {text}")
        mask = frame.objects[0].mask
        overlay = picture.copy()
        overlay[mask] = overlay[mask] // 2 + np.array([0, 100, 127], np.uint8)
        Image.fromarray(overlay).save(given.out / f"{index:06d}.png")
        shown += 1
    if words is not None and text is None:
        print(f"after the last frame: {words.result().text}")
print(f"{shown} frames shown in {given.out}")
