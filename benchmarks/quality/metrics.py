"""What is measured: overlap of masks, names, definitions, words. Pure functions of arrays and strings.

Semantic IoU is that of the LVIS and PACO tables (PAM: arXiv 2506.05302). PAM published no code for them; the
protocol's is Osprey's (arXiv 2312.10032, `osprey/eval/lvis_paco_eval.py`): overlap of sets of lower-cased
words, after the prediction lost its punctuation and the category its underscores. Metrics that need a package
or a model of their own are in `caption_scores.py` and `similarity.py`. This module knows no model, no bundle
and no file.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[Any]

# Scripts written without spaces: one character is one word.
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+(?:['’\-][^\W_{_HAN}]+)*")
_EDGES = " \t\r\n.,:;!?\"'`*()[]。，、：；！？“”‘’（）"


def mask_iou(predicted: Mask, true: Mask) -> float:
    """Intersection over union of two masks [height, width] (non-zero is inside). Two empty masks agree: 1.0.

    Raises ValueError where their shapes differ: that is a bug of the caller, not a bad prediction.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"masks of different sizes: {predicted.shape} and {true.shape}")
    a, b = predicted != 0, true != 0
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def same_label(predicted: str, true: str) -> bool:
    """Whether two category names are the same: case, underscores, character width and edges do not count."""
    return _label(predicted) == _label(true)


def same_text(predicted: str, true: str) -> bool:
    """Exact match of two texts: only the kind and amount of white space does not count."""
    return _spaced(predicted) == _spaced(true)


def protocol_prediction(text: str) -> str:
    """A predicted category as the LVIS/PACO protocol reads it: after the first colon, without `.`, `:` and
    `,`.
    """
    if ":" in text:
        text = text.split(":")[1]
    return _spaced(re.sub(r"[.:,]", " ", text))


def protocol_category(text: str) -> str:
    """A true category as the LVIS/PACO protocol reads it: `_` and `:` are spaces."""
    return _spaced(re.sub(r"[_:]", " ", text))


def semantic_iou(predicted: str, true: str) -> float:
    """Semantic IoU of a predicted and a true category: overlap of lower-cased words, 0 to 1.

    The protocol splits at spaces. Chinese has none; there every character counts as a word, which the
    protocol (English only) does not define.
    """
    a, b = (_bag(protocol_prediction(predicted)), _bag(protocol_category(true)))
    return len(a & b) / len(a | b) if a | b else 1.0


def words(text: str) -> list[str]:
    """Words of a caption for METEOR and CIDEr: lower case, no punctuation; each Chinese character is one
    word.
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def _bag(text: str) -> set[str]:
    spread = re.sub(rf"([{_HAN}])", r" \1 ", text.lower())
    return set(spread.split())


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _label(text: str) -> str:
    return _spaced(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").strip(_EDGES))
