"""The bundles our side runs: given ones, or exported with seeded random weights into the cache."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

from pam_edge.benchmarks.competitors.job import Job
from pam_edge.benchmarks.competitors.pins import OURS
from pam_edge.benchmarks.harness.row_builder import Who
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import variant_named
from pam_edge.core.errors import EnvironmentProblem, PamEdgeError

_EXPORT = "from pam_edge.cli.app import main; main()"


def bundle_of(job: Job, variant: str, scheme: str) -> Bundle:
    """The bundle of a variant and scheme: the first given one that fits, else an export of random weights,
    which goes on where an earlier one stopped.

    Raises UsageError for an unknown variant, EnvironmentProblem with the export's last words where it fails.
    """
    for folder in job.bundles:
        bundle = Bundle.open(folder, check=False)
        if (bundle.manifest.variant.name, bundle.manifest.scheme) == (variant, scheme):
            return bundle
    variant_named(variant)
    folder = job.cache / "bundles" / f"{variant}-{scheme}"
    try:
        return Bundle.open(folder, check=False)
    except PamEdgeError:
        job.tell(f"exporting random:{variant} at {scheme}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", _EXPORT, "export", "--target", "cpu", "--weights", f"random:{variant}"]
    done = subprocess.run(
        [*command, "--scheme", scheme, "-o", str(folder)], capture_output=True, text=True, check=False
    )
    if not (folder / "bundle.json").is_file():
        raise EnvironmentProblem(f"no bundle of random:{variant} at {scheme}: {done.stderr.strip()[-600:]}")
    return Bundle.open(folder, check=False)


def float_encoder(job: Job, variant: str) -> Bundle:
    """A float32 bundle to take the image encoder from: a given one, else one that holds only that."""
    for folder in job.bundles:
        bundle = Bundle.open(folder, check=False)
        if (bundle.manifest.variant.name, bundle.manifest.scheme) == (variant, "fp32"):
            return bundle
    folder = job.cache / "bundles" / f"{variant}-encoder-fp32"
    if not (folder / "bundle.json").is_file():
        job.tell(f"exporting the image encoder of random:{variant} in float32")
        module = "pam_edge.benchmarks.competitors.float_encoder"
        done = subprocess.run(
            [sys.executable, "-m", module, variant, str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise EnvironmentProblem(f"no image encoder of {variant}: {done.stderr.strip()[-600:]}")
    return Bundle.open(folder, check=False)


def our_side(bundle: Bundle, name: str = OURS) -> Who:
    """Whose rows are made with a bundle."""
    runtime = bundle.manifest.runtime
    return Who(
        side=name,
        scheme=bundle.manifest.scheme,
        runtime=runtime,
        versions={package: version(package) for package in ("pam-edge", runtime)},
        bundle=bundle.manifest.sha256,
    )


def decoder_bytes(bundle: Bundle) -> int:
    """Bytes of weights that one decode step reads: the decoder's files without what is looked up.

    Rotary tables are looked up, and an embedding that is no head. Weights stored in 16 bits are widened to 32
    when they are loaded, and count so.
    """
    manifest = bundle.manifest
    language, table = manifest.variant.language, manifest.embedding.file.path
    files = {ref.path: ref.bytes for ref in bundle.graph("decoder").files if not ref.path.endswith(".onnx")}
    if not language.tied:
        files.pop(table, None)
    rotary = 2 * 4 * language.max_length * (language.head_dim // 2)
    stored = sum(files.values()) - rotary
    return 2 * stored if manifest.scheme == "fp16" else stored
