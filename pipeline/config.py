"""The run config: one YAML file, parsed once into frozen sections that each room owns."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from headrace.components.crossval.config import CrossValidationConfig, extra_columns
from headrace.components.evaluation.config import EvaluationConfig
from headrace.components.features.columns import column_usages
from headrace.components.features.config import FeaturesConfig
from headrace.components.gates.config import TASK_METRICS, GatesConfig
from headrace.components.models.check import check_model, place_weights
from headrace.components.models.config import MlpConfig, ModelConfig
from headrace.components.push.config import PushConfig
from headrace.components.quantization.config import VariantsConfig
from headrace.components.training.config import TrainingConfig
from headrace.components.training.settings import check_training
from headrace.components.tuning.config import TuningConfig
from headrace.components.tuning.space import check_search
from headrace.components.validation.config import ValidationConfig
from headrace.data.columns import ColumnPlan, plan_columns
from headrace.data.config import DataConfig, TimeSplit
from headrace.data.errors import ConfigError
from headrace.data.local_path import LocalPath
from headrace.data.section import Section
from headrace.serving.deploy.config import DeployConfig

from .beam import BeamConfig, DirectBeam, place_beam
from .cluster import KubeflowConfig, MetadataConfig
from .config_errors import explain, explain_yaml
from .pushable import check_pushable
from .strict_yaml import load_yaml

__all__ = [
    "OutputConfig",
    "RunConfig",
    "column_plan",
    "kept_slices",
    "load_config",
    "override_config",
    "parse_config",
    "place_config",
    "read_config",
]


class OutputConfig(Section):
    """Where results go; relative paths start at the working directory.

    Attributes:
        runs: Folder of runs: summaries, reports, logs and the artifact store.
        push: Folder that TF Serving and devices read from.
    """

    runs: LocalPath = "./runs"
    push: LocalPath = "./push"


class RunConfig(Section):
    """Everything a run depends on.

    Attributes:
        schema_version: Version of this format; 1.
        name: Name of the pipeline, its metadata and its model; letters, digits, `-` and `_`.
        seed: Seed of the split, the shuffle, the initial weights and every sample, >= 0.
        features: Name of a feature -> how it is made of raw columns; its `kind` chooses the section.
        model: The network; `family` chooses the section.
        preprocessing_fn: Import path "module:function" of a tf.Transform preprocessing_fn that
            replaces `features`; null: the feature spec is used.
        code: Folder of modules of your own, those that import paths name; it is searched before installed
            packages. Relative to the config file's folder.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    data: DataConfig
    validation: ValidationConfig = ValidationConfig()
    features: FeaturesConfig = Field(default_factory=dict)
    preprocessing_fn: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    code: LocalPath = "."
    model: ModelConfig = MlpConfig()
    training: TrainingConfig = TrainingConfig()
    tuning: TuningConfig = TuningConfig()
    cross_validation: CrossValidationConfig = CrossValidationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    variants: VariantsConfig = VariantsConfig()
    gates: GatesConfig = GatesConfig()
    push: PushConfig = PushConfig()
    beam: BeamConfig = DirectBeam()
    output: OutputConfig = OutputConfig()
    metadata: MetadataConfig = MetadataConfig()
    kubeflow: KubeflowConfig = KubeflowConfig()
    deploy: DeployConfig = DeployConfig()

    @model_validator(mode="after")
    def _sections_agree(self) -> "RunConfig":
        if not self.features and self.preprocessing_fn is None:
            raise ValueError("`features` must name at least one feature. Received: {}")
        _check_columns(self)
        _check_variants(self)
        _check_metrics(self)
        _check_training(self)
        check_pushable(self)
        return self


def column_plan(config: RunConfig) -> ColumnPlan:
    """Return every raw column that `config` uses, with its role and type.

    Raises:
        ConfigError: If a column is used in ways that exclude each other.
    """
    return plan_columns(config.data, column_usages(config.features), kept_slices(config))


def kept_slices(config: RunConfig) -> tuple[tuple[str, ...], ...]:
    """Return `evaluation.slices`, and the columns that only cross-validation reads as further entries.

    Both must be written to the examples though no feature reads them.

    Raises:
        ConfigError: If a column is used in ways that exclude each other.
    """
    slices = config.evaluation.slices
    known = plan_columns(config.data, column_usages(config.features), slices).columns
    names = {column.name for column in known}
    extra = [name for name in extra_columns(config.cross_validation, config.data) if name not in names]
    split = config.data.split
    for name in extra:
        is_number = (
            isinstance(split, TimeSplit) and split.column == name and not isinstance(split.eval_from, str)
        )
        if is_number and name not in config.data.columns:
            raise ConfigError(
                "a number that orders rows must be declared as one. "
                f"Received: no type for {name!r}; add `data.columns.{name}: float` (cross_validation.order)"
            )
    return (*slices, *((name,) for name in extra))


def _check_columns(config: RunConfig) -> None:
    for entry in config.evaluation.slices:
        if not entry or len(set(entry)) != len(entry):
            raise ValueError(
                f"an entry of `evaluation.slices` must name distinct columns. Received: {list(entry)}"
            )
    try:
        column_plan(config)
    except ConfigError as error:
        raise ValueError(error.message) from error


def _check_variants(config: RunConfig) -> None:
    built = config.variants.build
    named: list[tuple[str, str | None]] = [
        ("push.serving", config.push.serving),
        ("push.lite", config.push.lite),
    ]
    named += [(f"gates.cost.{i}.variant", gate.variant) for i, gate in enumerate(config.gates.cost)]
    for place, variant in named:
        if variant is not None and variant not in built:
            raise ValueError(
                f"`{place}` must be one of `variants.build` ({', '.join(built)}). Received: {variant}"
            )
    slices = [set(entry) for entry in config.evaluation.slices]
    for i, gate in enumerate(config.gates.quality):
        if gate.slice and set(gate.slice) not in slices:
            raise ValueError(
                f"`gates.quality.{i}.slice` must use the columns of an entry of `evaluation.slices`. "
                f"Received: {dict(gate.slice)}"
            )


def _check_metrics(config: RunConfig) -> None:
    task, costs = config.data.task, config.evaluation.costs
    named = [(f"gates.quality.{i}.metric", gate.metric) for i, gate in enumerate(config.gates.quality)]
    if config.gates.variant.metric != "auto":
        named.append(("gates.variant.metric", config.gates.variant.metric))
    for place, metric in named:
        if metric not in TASK_METRICS[task]:
            raise ValueError(
                f"`{place}` must be a metric of the task {task}: {', '.join(TASK_METRICS[task])}. "
                f"Received: {metric}"
            )
        if metric == "cost" and not costs:
            raise ValueError(f"`{place}: cost` needs `evaluation.costs`. Received: no costs")
    if costs and task not in ("binary", "multiclass"):
        raise ValueError(f"`evaluation.costs` needs the task binary or multiclass. Received: {task}")
    if config.evaluation.threshold == "min_cost" and task != "binary":
        raise ValueError(f"`evaluation.threshold: min_cost` needs the task binary. Received: {task}")


def _check_training(config: RunConfig) -> None:
    try:
        kinds = None if config.preprocessing_fn else {one.kind for one in config.features.values()}
        check_training(config.training, config.data.task, kinds)
        check_model(config.model, {} if config.preprocessing_fn else config.features)
        if config.tuning.enabled:
            check_search(config.tuning, config.model, config.training, config.data.task)
    except ConfigError as error:
        raise ValueError(". ".join(part for part in (error.message, error.hint) if part)) from error


def load_config(path: str | Path, overrides: Sequence[str] = (), root: str | Path | None = None) -> RunConfig:
    """Read, override and check a config file.

    Args:
        path: YAML file.
        overrides: "dotted.path=value" texts, the value in YAML, applied in order.
        root: Where relative output folders start; default: the working directory.

    Returns:
        The config, with `data.path`, `validation.schema_path`, a file of pretrained weights and the output
        folders absolute.

    Raises:
        ConfigError: If the file cannot be read or parsed, or a value breaks a rule.
    """
    file = Path(path)
    config = parse_config(override_config(read_config(path), overrides), place=file.name)
    return place_config(config, file.resolve().parent, file.stem, root)


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a config file without checking what it says.

    Raises:
        ConfigError: If the file cannot be read or parsed, or is no mapping.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"the config must be an existing file. Received: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config must be a readable UTF-8 file. Received: {path} ({error})") from error
    try:
        raw = load_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"{error.message} of {path}") from None
    except yaml.YAMLError as error:
        raise ConfigError(explain_yaml(error, str(path))) from error
    if not isinstance(raw, dict):
        received = "nothing: the file is empty" if raw is None else f"a {type(raw).__name__}"
        raise ConfigError(f"the config must be a mapping of keys to values. Received: {received} ({path})")
    return raw


def override_config(
    raw: Mapping[str, Any], overrides: Sequence[str], texts: Sequence[str] = ()
) -> dict[str, Any]:
    """Return `raw` with "dotted.path=value" texts applied in order; values of `texts` are not read as YAML.

    Raises:
        ConfigError: If an override is malformed or leads nowhere.
    """
    changed = copy.deepcopy(dict(raw))
    for override in overrides:
        _apply_override(changed, override)
    for override in texts:
        _apply_override(changed, override, is_text=True)
    return changed


def parse_config(raw: Mapping[str, Any], place: str = "config") -> RunConfig:
    """Check `raw` (parsed YAML) and return the config; `place` is named in errors."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, raw, RunConfig, place)) from None


def place_config(config: RunConfig, folder: Path, stem: str, root: str | Path | None = None) -> RunConfig:
    """Return `config` with absolute paths.

    Args:
        config: As it was written.
        folder: Absolute folder where data, schema and weights start.
        stem: Name of the config, for the default of `validation.schema_path`.
        root: Where output folders start; default: the working directory.
    """
    data_path = os.path.normpath(folder / config.data.path)
    schema_path = config.validation.schema_path or f"{stem}.schema.pbtxt"
    base = Path(root or "").absolute()
    output = OutputConfig(runs=str(base / config.output.runs), push=str(base / config.output.push))
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"path": data_path}),
            "validation": config.validation.model_copy(update={"schema_path": str(folder / schema_path)}),
            "model": place_weights(config.model, folder),
            "beam": place_beam(config.beam, folder),
            "output": output,
            "code": os.path.normpath(folder / config.code),
        }
    )


def _apply_override(raw: dict[str, Any], override: str, is_text: bool = False) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"`--set` must be of the form a.b=value. Received: {override}")
    try:
        value = text if is_text else load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of `--set` must be valid YAML. Received: {override}") from error
    target: Any = raw
    *parents, last = dotted.split(".")
    for key in parents:
        if isinstance(target, list) and key.isdigit() and int(key) < len(target):
            target = target[int(key)]
        elif isinstance(target, dict):
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
        else:
            target = None
        if not isinstance(target, dict | list):
            raise ConfigError(f"`--set` must name a path through mappings. Received: {override} (at `{key}`)")
    if isinstance(target, list):
        if not last.isdigit() or int(last) >= len(target):
            raise ConfigError(f"`--set` must name an existing list entry. Received: {override}")
        target[int(last)] = value
    else:
        target[last] = value
