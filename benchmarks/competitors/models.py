"""The peers' own model files of a variant's shapes, made once in the cache by their own tools."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pam_edge.benchmarks.competitors.environments import environment, python
from pam_edge.benchmarks.competitors.job import Job
from pam_edge.benchmarks.competitors.pins import GENAI, GGUF, pin_named
from pam_edge.bundle.config import LanguageConfig, variant_named
from pam_edge.core.errors import EnvironmentProblem

_HERE = "pam_edge.benchmarks.competitors"


def gguf_model(job: Job, variant: str) -> Path:
    """llama.cpp's file of a variant's language model at Q4_0. Raises EnvironmentProblem where none comes."""
    path = job.cache / "models" / f"{variant}-q4_0.gguf"
    if not path.exists():
        job.tell(f"writing {path.name}")
        partial = path.with_suffix(".part")
        home = environment(pin_named(GGUF), job.cache)
        _make([str(python(home)), "-m", f"{_HERE}.gguf_file", str(_config(job, variant)), str(partial)])
        partial.rename(path)
    return path


def genai_model(job: Job, variant: str) -> Path:
    """onnxruntime-genai's folder of the same at int4. Raises like `gguf_model`."""
    folder = job.cache / "models" / f"{variant}-genai-int4"
    if not folder.exists():
        job.tell(f"building {folder.name}")
        home = environment(pin_named(GENAI), job.cache)
        _make([str(python(home)), "-m", f"{_HERE}.genai_model", str(_config(job, variant)), str(folder)])
    return folder


def genai_bytes(folder: Path, language: LanguageConfig) -> int:
    """Bytes of weights a decode step reads: all but the rotary tables (the embedding is the head)."""
    rotary = 2 * 4 * language.max_length * (language.head_dim // 2)
    return sum(path.stat().st_size for path in folder.glob("*.data")) - rotary


def _config(job: Job, variant: str) -> Path:
    path = job.cache / "models" / f"{variant}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(variant_named(variant).language))
    return path


def _make(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise EnvironmentProblem(f"{' '.join(command[1:4])} failed: {done.stderr.strip()[-600:]}")
