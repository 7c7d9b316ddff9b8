"""A model, and how to train it, for data of a certain size and kind."""

from collections.abc import Iterable, Mapping

from .feature_guess import Guess

__all__ = ["SMALL_ROWS", "model_lines", "push_lines", "split_shares"]

SMALL_ROWS = 5_000
"""Below it an epoch has few steps, and the rows that judge it are few."""

_FEW_ROWS = 1_000
_STEPS = 2_000
_MAX_EPOCHS = 150
_SMALL_CNN = (
    "  # Without `global_pool` each pixel of the last block has weights of its own: millions in all.",
    "  filters: [16, 32, 64]",
    "  global_pool: average",
    "  hidden: [32]",
)
_AUGMENTED = (
    "  # Few pictures are learned by heart; a little moved, they are not. Add `flip: horizontal` where left",
    "  # and right mean the same.",
    "  augment:",
    "    image: {rotate: 10, shift: 0.08, zoom: 0.1}",
)
_FAMILIES = {"image": "cnn", "series": "conv1d", "text": "wide_deep"}


def model_lines(rows: int, guesses: Iterable[Guess]) -> list[str]:
    """Return the `model` and `training` sections as lines of YAML.

    Args:
        rows: Of the data.
        guesses: The features, those left out included.
    """
    kinds = {guess.lines[0] for guess in guesses if guess.lines}
    family = next((family for kind, family in _FAMILIES.items() if f"kind: {kind}" in kinds), "mlp")
    few_pictures = family == "cnn" and rows < SMALL_ROWS
    hidden = "[32, 16]" if rows < SMALL_ROWS else "[64, 32]" if rows < 500_000 else "[128, 64]"
    return [
        "model:",
        f"  family: {family}",
        *([f"  hidden: {hidden}"] if family == "mlp" else []),
        *(_SMALL_CNN if few_pictures else ()),
        f"  dropout: {0.1 if family == 'mlp' else 0.3}",
        "",
        "training:",
        *(_small_training(rows, family) if rows < SMALL_ROWS else _training(rows)),
        *(_AUGMENTED if few_pictures else ()),
    ]


def push_lines(rows: int) -> list[str]:
    """Return the `push` section, where there is a reason for one."""
    if rows >= SMALL_ROWS:
        return []
    return [
        "push:",
        "  # One row of so small a test split weighs more than the loss that int8 is allowed.",
        "  serving: float32",
        "  lite: tflite_float32",
    ]


def split_shares(rows: int) -> Mapping[str, float]:
    """Return the shares of a random split: more rows to judge by where there are few."""
    if rows < _FEW_ROWS:
        return {"train": 0.6, "eval": 0.2, "test": 0.2}
    return {"train": 0.8, "eval": 0.1, "test": 0.1}


def _training(rows: int) -> list[str]:
    # About two hundred steps an epoch, within what trains well on a processor.
    batch = min(max(32, 2 ** ((rows // 200).bit_length() - 1)), 1024)
    return [
        f"  epochs: {20 if rows < 50_000 else 5} # early stopping ends it sooner",
        f"  batch_size: {batch}",
    ]


def _small_training(rows: int, family: str) -> list[str]:
    """Train for about as many steps as large data is trained for, and wait longer: few rows judge noisily."""
    batch = 16 if rows < _FEW_ROWS else 32
    steps = max(1, round(split_shares(rows)["train"] * rows / batch))
    epochs = min(max(20, round(_STEPS / steps)), _MAX_EPOCHS)
    patience = max(4, epochs // 8)
    return [
        f"  epochs: {epochs} # about {steps} steps each; early stopping ends it sooner",
        f"  batch_size: {batch}",
        f"  learning_rate: {0.001 if family == 'cnn' else 0.003}",
        "  # A loss tells more than a share of few rows.",
        f"  early_stopping: {{monitor: val_loss, patience: {patience}}}",
        f"  reduce_on_plateau: {{patience: {max(2, patience // 2)}}}",
    ]
