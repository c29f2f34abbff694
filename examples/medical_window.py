"""A medical picture of 16 bits: window levels make it 8 bits, then it is segmented like any other.

python examples/medical_window.py slice.png --level 400 --width 900 --box 60,70,140,150

The window (its middle and width, in the picture's own units) decides which values can be told apart. Values
below are black, above white. NOT A MEDICAL DEVICE: PAM was trained on photographs.
"""

import argparse

import numpy as np
from PIL import Image

import pam_edge

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("image", help="a picture of 16 bits (PNG, TIFF), or .npy [h, w]")
parser.add_argument("--level", type=float, required=True, help="the window's middle")
parser.add_argument("--width", type=float, required=True, help="the window's width")
parser.add_argument("--box", required=True, help="x0,y0,x1,y1")
parser.add_argument("--bundle", default="nano")
parser.add_argument("--out", default="mask.png")
given = parser.parse_args()

values = np.load(given.image) if given.image.endswith(".npy") else np.asarray(Image.open(given.image))
low = given.level - given.width / 2
shown = np.clip((values.astype(np.float32) - low) / given.width, 0, 1)  # floats 0..1, [h, w]

with pam_edge.load(given.bundle) as pam:
    result = pam(shown, box=[float(v) for v in given.box.split(",")], tasks=[])  # the mask alone
inside = values[result.mask]
print(f"area {inside.size} pixels, mean {inside.mean():.1f}, deviation {inside.std():.1f}")
print("mask:", result.save_mask(given.out))
