"""A smaller bundle of a float one, calibrated on your own pictures (needs the extra `export`).

pam-edge export --target cpu --scheme fp16 -o my-nano
python examples/calibration.py my-nano photos/ --scheme int4 -o my-nano-int4
"""

import argparse
from pathlib import Path

import pam_edge
from pam_edge.export.driver.quantized import plan_quantize, quantize_bundle
from pam_edge.quantize.calibration import folder_samples

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("bundle")
parser.add_argument("pictures", type=Path, help="a folder of pictures as the device will see them")
parser.add_argument("--count", type=int, default=64, help="how many of them at most")
parser.add_argument("--scheme", default="int8")
parser.add_argument("-o", "--out", type=Path, required=True)
given = parser.parse_args()

source = pam_edge.Bundle.open(given.bundle)
plan = plan_quantize(source, given.scheme, samples=lambda: folder_samples(given.pictures, count=given.count))
made = quantize_bundle(plan, given.out)
print(f"{source.total_bytes / 1e6:.1f} MB became {made.total_bytes / 1e6:.1f} MB in {made.folder}")
verification = made.manifest.verification
print("kept to its tolerance:", verification is not None and verification.ok)
