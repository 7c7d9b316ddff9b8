"""Which pushed model is the baseline."""

from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from headrace.components.nodes.baseline import LastPushedModel
from headrace.components.sums import SUMS, record


def _model(root: Path, number: int, *, sums: bool = True) -> Any:
    model = standard_artifacts.Model()
    model.id, model.uri = number, str(root / str(number))
    (root / str(number)).mkdir()
    (root / str(number) / "weights").write_text(str(number))
    model.set_string_custom_property("sha256", f"content {number}")
    if sums:
        model.set_string_custom_property(SUMS, record(model.uri))
    return model


def _push(number: int, model: int) -> Any:
    push = standard_artifacts.PushedModel()
    push.id = number
    push.set_int_custom_property("model_artifact_id", model)
    return push


def _resolved(models: list[Any], candidate: Any) -> list[int]:
    pushed = [_push(100 + model.id, model.id) for model in models]
    found = LastPushedModel().resolve_artifacts(
        None, {"candidate": [candidate], "baseline": [*models, candidate], "pushed": pushed}
    )
    return [model.id for model in found["baseline"]]


@pytest.mark.parametrize("sums", [True, False])
def test_the_newest_other_model_is_the_baseline(tmp_path: Path, sums: bool) -> None:
    models = [_model(tmp_path, number, sums=sums) for number in (1, 2)]
    assert _resolved(models, _model(tmp_path, 3)) == [2]
    assert _resolved(models, models[1]) == [1]
    assert _resolved([], _model(tmp_path, 4)) == []


def test_a_model_that_was_altered_is_no_baseline(tmp_path: Path) -> None:
    models = [_model(tmp_path, number) for number in (1, 2)]
    (tmp_path / "2" / "weights").write_text("3")
    assert _resolved(models, _model(tmp_path, 3)) == [1]
