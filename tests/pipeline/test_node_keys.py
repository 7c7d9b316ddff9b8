"""What moves a node's cache key: its sources, packages and config, and own code; no place does."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.components import identity as sources
from headrace.components.models.check import without_weights
from headrace.components.models.config import EnsembleConfig, MlpConfig, TransferConfig
from headrace.components.node import PLACES_VARIABLE, placed_config
from headrace.pipeline.config import RunConfig, load_config, parse_config
from headrace.pipeline.graph import GRAPH, Node
from headrace.pipeline.identity import node_parameters, node_places, run_identity

from .test_config import GOOD, write

SHARED = {
    "statistics": {"schema", "validation"},
    "schema": {"validation"},
    "verdict": {"data_verdict"},
    "data_verdict": {"verdict"},
    "transform": {"crossval"},
}
"""Node -> other nodes that import its module, read from the sources by hand."""

SECTIONS: dict[str, tuple[str, Any]] = {
    "data": ("data.shards", 5),
    "data.label": ("data.label", "delayed"),
    "data.weight": ("data.weight", "w"),
    "data.task": ("data.task", "regression"),
    "data.csv": ("data.csv.delimiter", ";"),
    "usages": ("features.more", {"kind": "numeric"}),
    "features": ("features.distance.log", True),
    "preprocessing_fn": ("preprocessing_fn", "own:fn"),
    "model": ("model.hidden", [3]),
    "training": ("training.batch_size", 7),
    "tuning": ("tuning.trials", 9),
    "cross_validation": ("cross_validation.folds", 7),
    "evaluation": ("evaluation.importance_rows", 5),
    "evaluation.slices": ("evaluation.slices", [["tail"]]),
    "evaluation.min_slice_rows": ("evaluation.min_slice_rows", 3),
    "evaluation.threshold": ("evaluation.threshold", 0.3),
    "evaluation.costs": ("evaluation.costs", {"1": {"0": 5.0}}),
    "validation.max_skew": ("validation.max_skew", 0.5),
    "validation.skew_is_error": ("validation.skew_is_error", True),
    "variants": ("variants.calibration_rows", 512),
    "gates": ("gates.allow_unbounded", True),
    "gates.serving": ("gates.serving.timeout_s", 5),
    "push": ("push.model_name", "other"),
    "push.model_name": ("push.model_name", "other"),
    "push.serving": ("push.serving", "float32"),
    "push.lite": ("push.lite", "tflite_float16"),
    "push.warmup_rows": ("push.warmup_rows", 3),
    "name": ("name", "other"),
    "identity": ("seed", 7),
    "seed": ("seed", 7),
}
"""Section that a node lists -> an edit inside it."""

EVERYTHING = {"push": {"lite": None},
              "tuning": {"enabled": True, "search": {"model.dropout": {"float": [0, 0.5]}}},
              "cross_validation": {"enabled": True}}  # fmt: skip
PLACES = {"validation.schema_path", "output.push", "validation.schema_sha256"}


def config(path: str = "seed", value: Any = 42) -> RunConfig:
    raw = json.loads(json.dumps({**GOOD, **EVERYTHING}))
    *parents, last = path.split(".")
    target = raw
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = value
    return parse_config(raw)


def keys(given: RunConfig) -> dict[str, dict[str, str]]:
    return {n.id: node_parameters(given, n) for n in GRAPH}


def moved(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def all_of(expected: set[str]) -> set[str]:
    """Add the push: it holds the identity of the whole run."""
    return expected | {"push"}


@pytest.fixture
def fresh() -> Any:
    """Let no hash outlive a patched source."""
    caches = (sources.source_modules, sources._read)
    for cache in caches:
        cache.cache_clear()
    yield caches
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("node", GRAPH, ids=lambda n: n.id)
def test_the_source_of_a_node_moves_its_key_and_no_other(
    node: Node, fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(config())
    module = node.run.partition(":")[0]
    edited = sources._file(module)
    assert edited is not None
    text = edited.read_text(encoding="utf-8")
    monkeypatch.setattr(Path, "read_bytes", _instead(edited, f"{text}\n_ADDED = 1\n".encode()))
    for cache in fresh:
        cache.cache_clear()
    assert moved(before, keys(config())) == all_of({node.id} | SHARED.get(node.id, set()))
    monkeypatch.setattr(Path, "read_bytes", _instead(edited, f"# A remark.\n{text}\n'''Words.'''\n".encode()))
    for cache in fresh:
        cache.cache_clear()
    assert moved(before, keys(config())) == set()


def _instead(file: Path, content: bytes) -> Any:
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        return content if path == file else real(path)

    return read_bytes


@pytest.mark.parametrize(
    ("node", "package"), [(n, p) for n in GRAPH for p in n.packages], ids=lambda v: getattr(v, "id", v)
)
def test_a_package_moves_the_keys_of_the_nodes_that_name_it(
    node: Node, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(config())
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.0.7" if name == package else real(name)
    )
    found = moved(before, keys(config()))
    assert node.id in found
    assert found == all_of({n.id for n in GRAPH if package in n.packages})


@pytest.mark.parametrize(
    ("node", "section"),
    [(n, s) for n in GRAPH for s in n.config if s not in PLACES],
    ids=lambda v: getattr(v, "id", v),
)
def test_a_section_moves_the_keys_of_the_nodes_that_list_it_and_no_other(node: Node, section: str) -> None:
    path, value = SECTIONS[section]
    readers = {n.id for n in GRAPH if any(f"{path}.".startswith(f"{listed}.") for listed in n.config)}
    found = moved(keys(config()), keys(config(path, value)))
    assert node.id in found
    assert found == all_of(readers | {"ingest"} if section == "usages" else readers)


def test_a_curated_schema_moves_the_key_of_the_schema_node_alone(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    before = keys(load_config(file))
    (tmp_path / "demo.schema.pbtxt").write_text('feature { name: "distance" }\n')
    assert moved(before, keys(load_config(file))) == {"schema"}


def test_no_place_is_part_of_a_key(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    raw = {**GOOD, "model": {"family": "transfer", "weights": "w.h5"}, "validation": {"schema_path": "s.txt"},
           "features": {"p": {"kind": "image", "height": 64, "width": 64}}}  # fmt: skip
    for folder in (here, there):
        folder.mkdir()
        (folder / "rows.csv").write_text("p,late\n")
        (folder / "w.h5").write_bytes(b"weights")
    one, other = (load_config(write(folder, raw), root=folder) for folder in (here, there))
    assert keys(one) == keys(other)
    assert run_identity(one) == run_identity(other)
    assert str(tmp_path) not in str(keys(one))
    (there / "w.h5").write_bytes(b"other weights")
    assert moved(keys(one), keys(other)) == {"trainer", "push"}
    by_id = {n.id: node_places(other, n) for n in GRAPH}
    assert by_id["trainer"] == {
        "data": {"path": str(there / "rows.csv")},
        "model": {"weights": str(there / "w.h5")},
    }
    assert by_id["schema"]["validation.schema_path"] == str(there / "s.txt")
    assert by_id["push"]["output.push"] == str(there / "push")


def test_what_is_compiled_holds_the_whole_key(tmp_path: Path) -> None:
    from headrace.pipeline.dag import compile_pipeline
    from headrace.pipeline.store import Store

    given = load_config(write(tmp_path, GOOD), root=tmp_path)
    compiled = compile_pipeline(given, Store.of(given))
    for item in compiled.nodes:
        node = item.pipeline_node
        held = {name: value.field_value.string_value for name, value in node.parameters.parameters.items()}
        (wanted,) = [node_parameters(given, n) for n in GRAPH if n.id == node.node_info.id]
        assert wanted.items() <= held.items()
        assert str(tmp_path) not in str(held)


@pytest.mark.parametrize("node", GRAPH, ids=lambda n: n.id)
def test_a_node_is_given_its_places(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = load_config(write(tmp_path, GOOD), root=tmp_path)
    monkeypatch.setenv(PLACES_VARIABLE, json.dumps(node_places(given, node)))
    found = placed_config(node_parameters(given, node)["config"])
    assert set(found) == set(node.config)
    if found.get("data") is not None:
        assert found["data"]["path"] == str(tmp_path / "rows.csv")
    assert found.get("output.push", str(tmp_path / "push")) == str(tmp_path / "push")


def test_where_pretrained_weights_lie_is_nothing_of_a_model() -> None:
    single = TransferConfig(family="transfer", weights="/here/w.h5")
    assert without_weights(single).weights == ""
    ensemble = EnsembleConfig(family="ensemble", member=single)
    assert without_weights(ensemble).member.weights == ""
    for model in (TransferConfig(family="transfer", weights="imagenet"), MlpConfig()):
        assert without_weights(model) == model
