"""Artifact types of the DAG by the names that the graph uses; TFX's own wherever there is one."""

from tfx.types import artifact, standard_artifacts

__all__ = ["Baseline", "CrossValidation", "Gates", "Infra", "Variants", "artifact_type"]


class Variants(artifact.Artifact):
    """Forms of one trained model: `variants.json` and a folder for each."""

    TYPE_NAME = "headrace.Variants"


class Gates(artifact.Artifact):
    """Judged gates: `gates.json`, and for the model `verdict.json`."""

    TYPE_NAME = "headrace.Gates"


class Infra(artifact.Artifact):
    """Result of loading and probing every variant: `infra.json`, golden and warm-up requests."""

    TYPE_NAME = "headrace.Infra"


class CrossValidation(artifact.Artifact):
    """Metrics of every fold: `crossval.json`."""

    TYPE_NAME = "headrace.CrossValidation"


class Baseline(artifact.Artifact):
    """The model that is live: `baseline.json` and, where there is one, `model/`."""

    TYPE_NAME = "headrace.Baseline"


_OWN = {
    "Variants": Variants,
    "Gates": Gates,
    "Infra": Infra,
    "CrossValidation": CrossValidation,
    "Baseline": Baseline,
}


def artifact_type(name: str) -> type[artifact.Artifact]:
    """Return the artifact class called `name` in the graph."""
    found: type[artifact.Artifact] = _OWN.get(name) or getattr(standard_artifacts, name)
    return found
