"""The `model` section: one family a class, told apart by `family`."""

from typing import Annotated, Literal

from pydantic import Field

from headrace.data.section import Section

__all__ = ["MlpConfig", "ModelConfig"]


class MlpConfig(Section):
    """Embeddings and dense layers.

    Attributes:
        hidden: Units of each hidden layer, first to last.
        activation: Keras activation of the hidden layers.
        dropout: Share of hidden units dropped in training, in [0, 1).
        embedding_dropout: Share of each embedding vector dropped in training, in [0, 1).
        batch_norm: Normalise each hidden layer's input over the batch.
        l1: L1 penalty on dense kernels, >= 0.
        l2: L2 penalty on dense kernels, >= 0.
        embedding_l2: L2 penalty on embedding tables, >= 0.
        linear_terms: Add to the logits one learned number per category, beside the dense layers (the
            wide part of a wide-and-deep model).
    """

    family: Literal["mlp"] = "mlp"
    hidden: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = (64, 32)
    activation: Literal["relu", "gelu", "silu", "elu", "selu", "tanh", "leaky_relu"] = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    embedding_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    batch_norm: bool = False
    l1: Annotated[float, Field(ge=0)] = 0.0
    l2: Annotated[float, Field(ge=0)] = 0.0
    embedding_l2: Annotated[float, Field(ge=0)] = 0.0
    linear_terms: bool = False


ModelConfig = MlpConfig
"""Grows into a union discriminated by `family` with the second family."""
