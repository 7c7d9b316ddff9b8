"""Rows with texts, series and pictures, and a feature spec that reads them in every way."""

import atexit
import io
import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from .transformed import run_transform, write_examples

TYPES = {
    "review": "string",
    "photo": "image",
    "pixels": "floats",
    "left": "floats",
    "right": "floats",
}

FEATURES: dict[str, Any] = {
    "words": {"kind": "text", "column": "review", "max_length": 6, "vocabulary": {"min_count": 2}},
    "letters": {
        "kind": "text",
        "column": "review",
        "tokens": "characters",
        "ngrams": [1, 3],
        "strip_accents": True,
        "lowercase": False,
        "max_length": 40,
        "vocabulary": {"top_k": 60, "oov_buckets": 5},
    },
    "tfidf": {
        "kind": "text",
        "column": "review",
        "output": "tfidf",
        "ngrams": [1, 2],
        "max_length": 12,
        "vocabulary": {"min_count": 3, "oov_buckets": 2},
    },
    "counts": {
        "kind": "text",
        "column": "review",
        "output": "counts",
        "strip_accents": True,
        "max_length": 8,
        "vocabulary": {"top_k": 10},
    },
    "photo": {"kind": "image", "height": 5, "width": 7},
    "grey": {
        "kind": "image",
        "column": "photo",
        "height": 6,
        "width": 6,
        "channels": 1,
        "fit": "pad",
        "scale": "zscore",
    },
    "cut": {
        "kind": "image",
        "column": "photo",
        "height": 4,
        "width": 9,
        "fit": "crop",
        "scale": "signed",
        "antialias": False,
    },
    "pixels": {"kind": "image", "height": 4, "width": 3, "channels": 1, "scale": "zscore"},
    "smaller": {
        "kind": "image",
        "column": "pixels",
        "height": 2,
        "width": 2,
        "channels": 1,
        "scale": "none",
        "source_height": 4,
        "source_width": 3,
        "max_value": 16,
    },
    "left": {"kind": "series", "max_length": 4},
    "both": {"kind": "series", "of": ["left", "right"], "max_length": 5, "keep": "first", "scale": "minmax"},
    "as_is": {"kind": "series", "of": ["right"], "max_length": 3, "scale": "none"},
}

_WORDS = ["the", "The", "café", "isn't", "good", "bad", "Straße", "ПРИВЕТ", "x1", "—", "it", "very", "film"]


def random_row(draw: random.Random, missing: float = 0.1) -> dict[str, Any]:
    """Draw a row as training sees them."""
    row = {
        "review": random_text(draw),
        "photo": random_picture(draw),
        "pixels": [float(draw.randrange(17)) for _ in range(12)],
        "left": random_series(draw, 1e3, 5.0),
        "right": random_series(draw, -2.0, 0.1),
    }
    return {name: None if draw.random() < missing else value for name, value in row.items()}


def random_text(draw: random.Random) -> str:
    """Draw a few words, now and then with nothing between them."""
    words = draw.choices(_WORDS, weights=range(1, 14), k=draw.randrange(1, 12))
    return draw.choice([" ", " ", " ", "", "\t"]).join(words) + draw.choice([".", "!", ""])


def random_series(draw: random.Random, mean: float, spread: float) -> list[float | None]:
    """Draw a list of up to eight numbers, some of them missing."""
    return [None if draw.random() < 0.2 else draw.gauss(mean, spread) for _ in range(draw.randrange(9))]


def random_picture(draw: random.Random) -> bytes:
    """Draw a small picture file of any size, colour and format that is read."""
    shape = (draw.randrange(1, 20), draw.randrange(1, 20))
    colours = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (*shape, 3), np.uint8)
    mode = draw.choice(["RGB", "L"])
    return save_picture(Image.fromarray(colours).convert(mode), draw.choice(["JPEG", "PNG"]))


def save_picture(image: Any, kind: str, **options: Any) -> bytes:
    """Return a Pillow image as the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@cache
def fitted_kinds() -> SimpleNamespace:
    """Run the transform node once for all tests of a process: `folder`, and the `splits` that went in."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-kinds-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    splits = make_splits()
    write_examples(folder / "examples", splits, TYPES)
    run_transform(folder, FEATURES)
    return SimpleNamespace(folder=folder, splits=splits)


def make_splits(seed: int = 5, train: int = 200) -> dict[str, list[dict[str, Any]]]:
    """Draw train, eval and test rows."""
    draw = random.Random(seed)
    return {
        split: [
            random_row(draw) | {"label": draw.choice(["no", "yes"]), "weight": draw.random()}
            for _ in range(size)
        ]
        for split, size in (("train", train), ("eval", 30), ("test", 20))
    }
