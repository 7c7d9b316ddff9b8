from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from headrace.components.validation import schema, statistics
from headrace.components.validation.schema_file import curation_hash, read_origin
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError
from tests.components.validation_room import CARRIERS, DATA, Room, Row, make_rows, rows_of, usual, write_split


def infer(tmp_path: Path, splits: Mapping[str, list[Row]], **data: Any) -> dict[str, Any]:
    """Return the inferred schema's features by name, with domains resolved under `.values`."""
    found = {
        split: statistics.compute_statistics(
            statistics.read_record_batches(write_split(tmp_path / split, rows))
        )
        for split, rows in splits.items()
    }
    message = schema.infer_schema(found, DataConfig.model_validate({**DATA, **data}))
    domains = {d.name: list(d.value) for d in message.string_domain}
    return {f.name: (f, domains.get(f.domain)) for f in message.feature}


def test_the_inferred_schema_is_fit_for_gates(tmp_path: Path) -> None:
    found = infer(tmp_path, usual())
    carrier, values = found["carrier"]
    assert values == CARRIERS
    assert carrier.distribution_constraints.min_domain_mass == 0.99
    assert (carrier.value_count.min, carrier.value_count.max) == (1, 1)
    assert carrier.presence.min_fraction == 0.99
    late, classes = found["late"]
    assert classes == ["0", "1"]
    assert late.distribution_constraints.min_domain_mass == 1.0
    assert late.presence.min_fraction == 1.0
    tail, values = found["tail"]
    assert values is None
    assert tail.presence.min_fraction == pytest.approx(0.8)  # 10 % were missing: twice that may be.
    assert found["day"][1] is None  # 60 dates recur, but the next month brings others.
    month, distance = found["month"][0], found["distance"][0]
    assert month.type == schema_pb2.INT
    assert not month.HasField("int_domain")
    assert distance.type == schema_pb2.FLOAT
    assert distance.float_domain.disallow_inf
    assert not distance.float_domain.HasField("min")


def test_the_schema_is_widened_by_the_other_splits(tmp_path: Path) -> None:
    splits = usual()
    for row in splits["eval"][:150]:
        row["carrier"] = "HA"
        row["distance"] = None
    found = infer(tmp_path, splits)
    assert found["carrier"][1] == [*CARRIERS[:3], "HA", "UA"]
    assert found["distance"][0].presence.min_fraction == 0.0


def test_labels_of_every_task(tmp_path: Path) -> None:
    label, _ = infer(tmp_path / "int", usual(late=lambda i: i % 3), task="multiclass")["late"]
    assert (label.int_domain.min, label.int_domain.max) == (0, 2)
    label, _ = infer(tmp_path / "float", usual(late=lambda i: i / 7), task="regression")["late"]
    assert label.float_domain.disallow_nan
    many = [f"class {i:03}" for i in range(150)]
    label, values = infer(tmp_path / "many", usual(late=lambda i: many[i % 150]), task="multiclass")["late"]
    assert values == many
    label, values = infer(tmp_path / "given", usual(), task="multiclass", classes=["0", "1", "2"])["late"]
    assert values == ["0", "1", "2"]


def test_few_rows_give_no_domain(tmp_path: Path) -> None:
    splits = {s: make_rows(20, 0, carrier=lambda i: f"id{i}") for s in ("train", "eval", "test")}
    assert infer(tmp_path, splits)["carrier"][1] is None


def test_the_weight_must_not_be_negative_or_missing(tmp_path: Path) -> None:
    weight, _ = infer(tmp_path, usual(w=1.5), weight="w")["w"]
    assert weight.float_domain.min == 0.0
    assert weight.float_domain.HasField("min")
    assert weight.presence.min_fraction == 1.0


def test_the_artifact_opens_in_tfx(tmp_path: Path) -> None:
    from tfx.utils import io_utils

    _, base = Room(tmp_path).run(usual())
    message = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(str(base / "schema")))
    assert {feature.name for feature in message.feature} == set(make_rows(1, 0)[0])


def test_the_first_run_writes_the_file_and_later_runs_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "flights.schema.pbtxt"
    room = Room(tmp_path, path)
    assert curation_hash(path) is None
    first, base = room.run(usual(), "first")
    assert first["schema"].finding == f"inferred 6 features, written to {path.name}"
    assert read_origin((base / "schema/schema.pbtxt").read_text()).origin == "inferred"
    written = path.read_text()
    assert curation_hash(path) is None
    second, base = room.run(usual(50), "second")
    assert second["schema"].finding == f"kept 6 features from {path.name}"
    assert read_origin((base / "schema/schema.pbtxt").read_text()).origin == "kept"
    assert path.read_text() == written
    path.write_text(written + "# mine\n")
    assert curation_hash(path) not in (None, "")
    room.run(usual(60), "third")
    assert path.read_text() == written + "# mine\n"


def test_a_new_column_is_added_to_the_kept_schema(tmp_path: Path) -> None:
    path = tmp_path / "s.pbtxt"
    room = Room(tmp_path, path)
    room.run(usual(), "first")
    results, base = room.run(usual(origin=lambda i: ["JFK", "LGA"][i % 2]), "second")
    assert results["schema"].finding.endswith("new and inferred: origin")
    (row,) = rows_of(base)
    assert (row["feature"], row["severity"]) == ("origin", "warning")
    room.verdict(base)


def test_a_column_that_the_config_dropped_is_a_warning(tmp_path: Path) -> None:
    room = Room(tmp_path, tmp_path / "s.pbtxt")
    room.run(usual(), "first")
    splits = {s: [{k: v for k, v in r.items() if k != "month"} for r in rows] for s, rows in usual().items()}
    _, base = room.run(splits, "second")
    assert {(row["feature"], row["rule"], row["severity"]) for row in rows_of(base)} == {
        ("month", "column present", "warning")
    }
    room.verdict(base)


def test_a_folder_that_takes_no_files_does_not_stop_the_run(tmp_path: Path) -> None:
    room = Room(tmp_path, tmp_path / "no such folder" / "s.pbtxt")
    results, base = room.run(usual())
    assert results["schema"].finding.endswith("kept in the run only: the config's folder takes no files")
    assert (base / "schema/schema.pbtxt").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('feature {\n  name: "a"\n  sort: INT\n}\n', r'no field named "sort".*s\.pbtxt, line 3'),
        ("feature {", r"must be a TFMD Schema in text form.*s\.pbtxt"),
        ("", r"must describe at least one feature.*s\.pbtxt"),
        (b"\xff\xfe", r"must be a UTF-8 text file\. Received: byte 0.*s\.pbtxt"),
    ],
)
def test_a_file_that_is_no_schema_is_a_config_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "s.pbtxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message):
        Room(tmp_path, path).run(usual())
