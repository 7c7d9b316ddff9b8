"""The `model` section: one family a class, told apart by `family`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from headrace.data.section import Section

__all__ = [
    "Activation",
    "FamilyConfig",
    "MlpConfig",
    "ModelConfig",
    "WideDeepConfig",
]

Activation = Literal["relu", "gelu", "silu", "elu", "selu", "tanh", "leaky_relu"]

Units = Annotated[int, Field(ge=1, le=65536)]
Share = Annotated[float, Field(ge=0, lt=1)]
Penalty = Annotated[float, Field(ge=0)]


class FamilyConfig(Section):
    """What all families share: how inputs become vectors, and the dense layers that end in the answer.

    Attributes:
        family: Name of the family.
        hidden: Units of each dense layer before the answer, first to last.
        activation: Keras activation of the hidden layers.
        dropout: Share of hidden units dropped in training, in [0, 1).
        embedding_dropout: Share of each embedding vector dropped in training, in [0, 1).
        l1: L1 penalty on kernels, >= 0.
        l2: L2 penalty on kernels, >= 0.
        embedding_l2: L2 penalty on embedding tables, >= 0.
    """

    family: str
    hidden: tuple[Units, ...] = (64,)
    activation: Activation = "relu"
    dropout: Share = 0.1
    embedding_dropout: Share = 0.0
    l1: Penalty = 0.0
    l2: Penalty = 0.0
    embedding_l2: Penalty = 0.0


class MlpConfig(FamilyConfig):
    """Embeddings and dense layers.

    Attributes:
        batch_norm: Normalise each hidden layer's input over the batch.
        linear_terms: Add to the logits one learned number per category, beside the dense layers (the
            wide part of a wide-and-deep model).
    """

    family: Literal["mlp"] = "mlp"
    hidden: tuple[Units, ...] = (64, 32)
    batch_norm: bool = False
    linear_terms: bool = False


class WideDeepConfig(FamilyConfig):
    """A linear model of categories, crosses, bags and numbers, and dense layers over their embeddings, added.

    `hidden: []` leaves the linear model alone: logistic or linear regression. After Cheng et al., "Wide &
    Deep Learning for Recommender Systems" (2016).

    Attributes:
        wide_l1: L1 penalty on the weights of the linear model, >= 0.
        wide_l2: L2 penalty on the weights of the linear model, >= 0.
        batch_norm: Normalise each hidden layer's input over the batch.
    """

    family: Literal["wide_deep"]
    hidden: tuple[Units, ...] = (64, 32)
    wide_l1: Penalty = 0.0
    wide_l2: Penalty = 0.0
    batch_norm: bool = False


def _name_family(section: Any) -> Any:
    return {"family": "mlp", **section} if isinstance(section, dict) else section


ModelConfig = Annotated[
    Annotated[MlpConfig | WideDeepConfig, Field(discriminator="family")],
    BeforeValidator(_name_family),
]
"""A family's section; without `family` it is an mlp."""
