"""OpenVINO as a worker, in its own environment: our float32 image encoder, quantized by its own tool.

    python -m pam_edge.benchmarks.competitors.openvino GRAPH.onnx MODEL_FOLDER THREADS

Post-training quantization of weights and activations with that tool's settings for transformers, calibrated
on a few rendered scenes; done once, then read from the folder.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.benchmarks.competitors.requests import Encode, Load
from pam_edge.benchmarks.harness.messages import Iteration, Versions
from pam_edge.benchmarks.harness.scene import calibration, picture
from pam_edge.benchmarks.harness.worker import serve
from pam_edge.image.preprocess import load_image, normalized, resized

CALIBRATION = 4  # pictures; speed does not depend on them


def quantize(graph: Path, folder: Path) -> Path:
    """The quantized model's file, made now where it is not there."""
    import nncf
    import openvino

    path = folder / "int8.xml"
    if path.exists():
        return path
    model = openvino.convert_model(str(graph))
    size = int(model.inputs[0].shape[-1])
    pictures = [_pixels(image, size) for image in calibration(CALIBRATION)]
    small = nncf.quantize(
        model,
        nncf.Dataset(pictures),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(pictures),
    )
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "partial.xml"
    openvino.save_model(small, str(partial))
    partial.with_suffix(".bin").rename(path.with_suffix(".bin"))
    return partial.rename(path)


def _pixels(image: Any, size: int) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(normalized(resized(load_image(image), size)), np.float32)


def main(argv: list[str]) -> None:
    """Serve the image encoder on one prepared picture."""
    import openvino

    graph, folder, threads = Path(argv[0]), Path(argv[1]), int(argv[2])
    held: list[Any] = []

    def load(_: Load) -> Versions:
        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        model = core.compile_model(str(quantize(graph, folder)), "CPU", settings)
        held.append(model)
        held.append(_pixels(picture(), int(model.inputs[0].shape[-1])))
        floats = str(
            model.get_property("INFERENCE_PRECISION_HINT")
        )  # of what is not quantized, its own choice
        return {"openvino": openvino.__version__, "floats": floats}

    def encode(_: Encode) -> Iteration:
        model, image = held
        clock = time.perf_counter_ns()
        model([image])
        return Iteration(samples={"encode": [time.perf_counter_ns() - clock]})

    serve({Load: load, Encode: encode})


if __name__ == "__main__":
    main(sys.argv[1:])
