"""Cache keys: each node depends on its own part of the config and on its own code, and on no more."""

from typing import Any

import pytest

from headrace.pipeline.config import RunConfig, parse_config
from headrace.pipeline.graph import GRAPH, node
from headrace.pipeline.identity import new_run_id, node_config, node_sources, run_identity

from .test_config import changed


def config(path: str = "seed", value: Any = 42) -> RunConfig:
    return parse_config(changed(path, value))


def nodes_that_differ(a: RunConfig, b: RunConfig) -> set[str]:
    return {n.id for n in GRAPH if node_config(a, n) != node_config(b, n)} - {"push"}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("features.distance.log", True, {"transform"}),
        ("training.epochs", 9, {"trainer"}),
        ("model.hidden", [3], {"trainer"}),
        ("tuning.trials", 9, set()),
        ("gates.quality", [{"metric": "auc", "min": 0.9}], {"gates"}),
        ("gates.serving.timeout_s", 5, {"gates", "infra"}),
        ("evaluation.threshold", 0.3, {"evaluation"}),
        ("variants.calibration_rows", 512, {"variants"}),
        ("validation.max_skew", 0.5, {"validation"}),
        ("output.push", "elsewhere", set()),
    ],
)
def test_a_change_reaches_only_the_nodes_that_read_it(path: str, value: Any, expected: set[str]) -> None:
    assert nodes_that_differ(config(), config(path, value)) == expected


def test_a_search_depends_on_what_its_trials_use() -> None:
    search = {"enabled": True, "search": {"training.learning_rate": {"float": [1e-4, 1e-2]}}}
    base = changed("tuning", search)
    longer, wider = ({**base, **part} for part in ({"training": {"epochs": 9}}, {"model": {"hidden": [3]}}))
    assert nodes_that_differ(parse_config(base), parse_config(longer)) == {"trainer"}
    assert nodes_that_differ(parse_config(base), parse_config(wider)) == {"tuner", "trainer"}


def test_spelling_out_a_default_changes_nothing() -> None:
    assert nodes_that_differ(config(), config("training.epochs", 5)) == set()
    assert run_identity(config()) == run_identity(config("training.epochs", 5))


def test_identity_leaves_out_where_results_go() -> None:
    assert run_identity(config()) == run_identity(config("output.runs", "elsewhere"))
    assert run_identity(config()) == run_identity(config("beam.runner", "prism"))
    assert run_identity(config()) != run_identity(config("seed", 7))


def test_graph_stands_in_an_order_that_can_be_run() -> None:
    seen: set[str] = set()
    for item in GRAPH:
        assert {edge.node for edge in item.inputs} | set(item.after) <= seen
        for edge in item.inputs:
            assert edge.node == "baseline" or edge.output in node(edge.node).outputs
        seen.add(item.id)


def test_every_node_names_code_that_is_there() -> None:
    for item in GRAPH:
        assert len(node_sources(item)) == 64


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = [new_run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert [i[:15] for i in ids] == sorted(i[:15] for i in ids)


def test_sources_follow_imports() -> None:
    from headrace.components.identity import source_modules

    found = source_modules("headrace.components.training.run")
    for part in (
        "components.training.input",
        "components.models.registry",
        "components.features.signatures",
        "data.errors",
    ):
        assert f"headrace.{part}" in found
    assert not [name for name in found if "evaluation.run" in name or "headrace.pipeline" in name]
    with pytest.raises(ModuleNotFoundError, match=r"Received: headrace\.components\.nothing"):
        source_modules("headrace.components.nothing")


def test_what_a_node_starts_by_name_is_there() -> None:
    from pathlib import Path

    from headrace.components.infra import child

    assert '"headrace.components.infra.probe"' in Path(child.__file__).read_text(encoding="utf-8")
