"""The `model` section: one family a class, told apart by `family`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from headrace.data.local_path import RemoteFile
from headrace.data.section import MAY_HOLD_SECRET, Section

__all__ = [
    "Activation",
    "Backbone",
    "CnnConfig",
    "Conv1dConfig",
    "CustomConfig",
    "EnsembleConfig",
    "FamilyConfig",
    "FineTune",
    "MemberConfig",
    "MlpConfig",
    "ModelConfig",
    "ResnetTabularConfig",
    "RnnConfig",
    "TransferConfig",
    "TransformerConfig",
    "WideDeepConfig",
    "stated_independence",
]

Activation = Literal["relu", "gelu", "silu", "elu", "selu", "tanh", "leaky_relu"]

Backbone = Literal[
    "MobileNetV2",
    "MobileNetV3Small",
    "MobileNetV3Large",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "ResNet50",
    "VGG16",
]

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


class ResnetTabularConfig(FamilyConfig):
    """Residual blocks over embedded categories and embedded numbers.

    Blocks after Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data" (2021); numbers as in
    "On Embeddings for Numerical Features" (2022), in the form with few parameters of Holzmüller et al.,
    "Better by Default" (2024): each number brings a few learned mixtures of cosines of itself.

    Attributes:
        blocks: Residual blocks, >= 1.
        width: Units that blocks read and write, >= 1.
        expansion: Units inside a block, as a multiple of `width`, > 0.
        norm: Normalise what a block reads over the batch, or over the units of each row.
        numbers: `periodic` embeds numbers as above, `plain` takes them as they are.
        frequencies: Cosines a number, >= 1.
        number_dim: Width of a number's embedding, the number itself included, >= 2.
        frequency_scale: Standard deviation of the first frequencies, per unit of the scaled number, > 0.
            Larger ones let the answer change faster with a number.
    """

    family: Literal["resnet_tabular"]
    hidden: tuple[Units, ...] = ()
    dropout: Share = 0.1
    blocks: Annotated[int, Field(ge=1, le=64)] = 3
    width: Units = 128
    expansion: Annotated[float, Field(gt=0, le=16)] = 2.0
    norm: Literal["batch", "layer"] = "batch"
    numbers: Literal["periodic", "plain"] = "periodic"
    frequencies: Annotated[int, Field(ge=1, le=1024)] = 16
    number_dim: Annotated[int, Field(ge=2, le=1024)] = 4
    frequency_scale: Annotated[float, Field(gt=0)] = 0.3


class CnnConfig(FamilyConfig):
    """Convolutions over images: blocks of convolution, batch norm and activation, each ended by pooling.

    Attributes:
        filters: Filters of each block, first to last.
        convolutions: Convolutions a block, >= 1.
        kernel: Side of a kernel in pixels, >= 1.
        batch_norm: Normalise each convolution's answer over the batch.
        pool: How a block halves height and width; `stride`: its last convolution takes every other pixel.
        block_dropout: Share of whole filters dropped in training after each block, in [0, 1).
        global_pool: How the last block becomes a vector: all its numbers, or each filter's mean or maximum.
    """

    family: Literal["cnn"]
    hidden: tuple[Units, ...] = (128,)
    dropout: Share = 0.3
    filters: Annotated[tuple[Units, ...], Field(min_length=1)] = (32, 64)
    convolutions: Annotated[int, Field(ge=1, le=16)] = 2
    kernel: Annotated[int, Field(ge=1, le=31)] = 3
    batch_norm: bool = True
    pool: Literal["max", "average", "stride"] = "max"
    block_dropout: Share = 0.1
    global_pool: Literal["flatten", "average", "max"] = "flatten"


class FineTune(Section):
    """The second phase of transfer: train the upper layers of the backbone too.

    Batch normalisation of the backbone keeps its statistics and factors.

    Attributes:
        from_layer: First layer to train, by name, or counted from 0 (below 0: from the end).
        learning_rate: First learning rate of this phase, > 0; much below that of the first phase.
        epochs: Most epochs of this phase, >= 1.
    """

    from_layer: str | int = -30
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    epochs: Annotated[int, Field(ge=1)] = 5


class TransferConfig(FamilyConfig):
    """A backbone trained on other images, first frozen under new dense layers, then fine-tuned.

    Attributes:
        backbone: A network of `keras.applications`.
        weights: `imagenet` (downloaded by Keras, once a machine), `none` (the backbone starts anew and is
            trained at once), or the path of a Keras weights file without the top layers, from the config
            file's folder on.
        pool: How the backbone's answer becomes a vector.
        fine_tune: The second phase; null leaves the backbone frozen.
    """

    family: Literal["transfer"]
    dropout: Share = 0.2
    backbone: Backbone = "MobileNetV2"
    weights: Annotated[RemoteFile, Field(min_length=1), MAY_HOLD_SECRET] = "imagenet"
    pool: Literal["average", "max"] = "average"
    fine_tune: FineTune | None = FineTune()


class RnnConfig(FamilyConfig):
    """Recurrent layers over series and texts, which stop at each row's own length.

    Attributes:
        cell: Kind of recurrent layer.
        units: Units of each recurrent layer (of each direction), first to last.
        bidirectional: Read from both ends.
        layer_dropout: Share of a layer's inputs dropped in training, in [0, 1).
        pool: What becomes the vector: the last state, or the mean or maximum over all steps.
    """

    family: Literal["rnn"]
    cell: Literal["lstm", "gru", "simple"] = "lstm"
    units: Annotated[tuple[Units, ...], Field(min_length=1)] = (64,)
    bidirectional: bool = True
    layer_dropout: Share = 0.1
    pool: Literal["last", "mean", "max"] = "last"


class Conv1dConfig(FamilyConfig):
    """Convolutions along series and texts.

    Attributes:
        filters: Filters of each convolution, first to last; equal neighbours are joined by a residual.
        kernel: Steps that a kernel spans, >= 1.
        dilated: Double the distance between those steps with every convolution.
        norm: Normalise over the batch, over each step's filters, or not at all.
        layer_dropout: Share of whole filters dropped in training after each convolution, in [0, 1).
        pool: What becomes the vector: mean, maximum or last of the steps, or several side by side.
    """

    family: Literal["conv1d"]
    filters: Annotated[tuple[Units, ...], Field(min_length=1)] = (64, 64)
    kernel: Annotated[int, Field(ge=1, le=1024)] = 5
    dilated: bool = False
    norm: Literal["batch", "layer", "none"] = "layer"
    layer_dropout: Share = 0.1
    pool: Annotated[tuple[Literal["mean", "max", "last"], ...], Field(min_length=1)] = ("mean", "max")


class TransformerConfig(FamilyConfig):
    """A transformer encoder over series and texts.

    After Vaswani et al., "Attention Is All You Need" (2017), normalised before each part.

    Attributes:
        blocks: Encoder blocks, >= 1.
        dim: Numbers a step, a multiple of `heads`.
        heads: Attention heads, >= 1.
        feedforward: Units inside a block's dense part, >= 1.
        positions: How steps tell their place: a `learned` vector each, `sinusoidal` ones, or `none`.
        block_dropout: Share dropped in training in every part of a block, in [0, 1).
        pool: What becomes the vector: the mean or maximum of the steps, or a learned extra step (`cls`).
    """

    family: Literal["transformer"]
    hidden: tuple[Units, ...] = ()
    blocks: Annotated[int, Field(ge=1, le=96)] = 2
    dim: Annotated[int, Field(ge=1, le=8192)] = 64
    heads: Annotated[int, Field(ge=1, le=128)] = 4
    feedforward: Units = 128
    positions: Literal["learned", "sinusoidal", "none"] = "learned"
    block_dropout: Share = 0.1
    pool: Literal["mean", "max", "cls"] = "mean"

    @model_validator(mode="after")
    def _heads_divide(self) -> "TransformerConfig":
        if self.dim % self.heads:
            raise ValueError(f"`dim` must be a multiple of `heads`. Received: {self.dim} and {self.heads}")
        return self


class CustomConfig(Section):
    """A model of your own: `build(features, options, output, seed, precision) -> keras.Model`.

    `features` is the content of features.json and `output` tells task and classes; the model takes a dict
    with every feature by name and answers logits, float32 `[rows, output.logits]`. Layers that are given no
    dtype and no seed get those of the run. `headrace.components.models.inputs` and `.head` have what
    the built-in families are made of.

    Attributes:
        function: Import path "module:function" of `build`.
        options: Values for the function, which tuning can search too.
        row_independent: Whether the model answers each row by itself, whatever rows are beside it: then
            `headrace serve` may put requests of different clients into one run. It is checked with golden
            and extreme rows, but not proven.
    """

    family: Literal["custom"]
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    options: Annotated[dict[str, object], MAY_HOLD_SECRET] = {}  # noqa: RUF012 - pydantic copies it
    row_independent: bool = False


def _name_family(section: Any) -> Any:
    return {"family": "mlp", **section} if isinstance(section, dict) else section


MemberConfig = Annotated[
    Annotated[
        MlpConfig
        | WideDeepConfig
        | ResnetTabularConfig
        | CnnConfig
        | TransferConfig
        | RnnConfig
        | Conv1dConfig
        | TransformerConfig
        | CustomConfig,
        Field(discriminator="family"),
    ],
    BeforeValidator(_name_family),
]
"""A section of any family but ensembles; without `family` it is an mlp."""


class EnsembleConfig(Section):
    """Models of one family that start from different seeds, their scores averaged; one model to serve.

    Attributes:
        size: Members, >= 2.
        member: The section of the members' family.
    """

    family: Literal["ensemble"]
    size: Annotated[int, Field(ge=2, le=64)] = 3
    member: MemberConfig = MlpConfig()


ModelConfig = Annotated[
    Annotated[
        MlpConfig
        | WideDeepConfig
        | ResnetTabularConfig
        | CnnConfig
        | TransferConfig
        | RnnConfig
        | Conv1dConfig
        | TransformerConfig
        | CustomConfig
        | EnsembleConfig,
        Field(discriminator="family"),
    ],
    BeforeValidator(_name_family),
]
"""A family's section; without `family` it is an mlp."""


def stated_independence(config: ModelConfig) -> bool | None:
    """Return whether a family of the user's own says that its rows are independent; None for others."""
    if isinstance(config, EnsembleConfig):
        return stated_independence(config.member)
    return config.row_independent if isinstance(config, CustomConfig) else None
