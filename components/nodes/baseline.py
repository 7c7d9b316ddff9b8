"""The baseline: the last pushed model whose content differs from the candidate's."""

import os
from collections.abc import Sequence
from typing import Any

from tfx.dsl.components.common import resolver

from headrace.components.sums import SUMS, compare

__all__ = ["LastPushedModel"]


class LastPushedModel(resolver.ResolverStrategy):
    """Resolves `baseline` from the pushes that MLMD knows of.

    An unchanged rerun thus meets the same baseline as the run before it, and stays cached; the
    stock strategy would hand it its own model.
    """

    def resolve_artifacts(self, store: Any, input_dict: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return `input_dict` with `baseline` cut down to one model or none.

        Args:
            store: The MLMD store.
            input_dict: `candidate` (this run's model), `baseline` (all models) and `pushed` (all pushes).
        """
        candidate = input_dict["candidate"]
        models = {model.id: model for model in input_dict["baseline"]}
        found: list[Any] = []
        for push in sorted(input_dict["pushed"], key=lambda item: item.id, reverse=True):
            model = models.get(push.get_int_custom_property("model_artifact_id"))
            if model is not None and not _same_content(model, candidate) and _is_whole(model):
                found = [model]
                break
        return {"candidate": candidate, "baseline": found, "pushed": []}


def _same_content(model: Any, candidates: Sequence[Any]) -> bool:
    digest = model.get_string_custom_property("sha256")
    return any(
        c.id == model.id or (digest and digest == c.get_string_custom_property("sha256")) for c in candidates
    )


def _is_whole(model: Any) -> bool:
    """Whether a model is as its node left it; one of before sums were recorded counts as such."""
    text = model.get_string_custom_property(SUMS)
    return not (text and compare(model.uri, text, os.environ.get("HEADRACE_STORE")))
