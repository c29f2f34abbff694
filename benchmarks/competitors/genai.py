"""onnxruntime-genai as a worker, in its own environment.

    python -m pam_edge.benchmarks.competitors.genai MODEL_FOLDER THREADS

Greedy search by its own generator, its settings left alone but for the number of threads.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pam_edge.benchmarks.competitors.requests import Decode, Load
from pam_edge.benchmarks.harness.messages import Iteration, Versions
from pam_edge.benchmarks.harness.worker import serve


def set_threads(folder: Path, threads: int) -> None:
    """Write the number of threads where the engine reads it."""
    path = folder / "genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["decoder"].setdefault("session_options", {})["intra_op_num_threads"] = threads
    path.write_text(json.dumps(config, indent=1))


def main(argv: list[str]) -> None:
    """Serve rounds of one prompt and the tokens after it."""
    import onnxruntime_genai as og

    folder, held = Path(argv[0]), []

    def load(_: Load) -> Versions:
        set_threads(folder, int(argv[1]))
        held.append(og.Model(str(folder)))
        return {}

    def decode(asked: Decode) -> Iteration:
        tokens, steps = list(asked.tokens), asked.steps
        params = og.GeneratorParams(held[0])
        params.set_search_options(max_length=len(tokens) + steps + 2, do_sample=False)
        generator = og.Generator(held[0], params)
        clock = time.perf_counter_ns()
        generator.append_tokens(tokens)
        generator.generate_next_token()  # picks from the prompt's logits
        read = time.perf_counter_ns()
        for _ in range(steps):
            if generator.is_done():
                raise RuntimeError("it stopped before the last token")
            generator.generate_next_token()
        found = Iteration()
        found.add("prefill", read - clock)
        found.add("decode", time.perf_counter_ns() - read)
        return found

    serve({Load: load, Decode: decode})


if __name__ == "__main__":
    main(sys.argv[1:])
