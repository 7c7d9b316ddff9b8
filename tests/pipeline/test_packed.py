"""A packed config says what its file says, wherever it is unpacked."""

import hashlib
from pathlib import Path

import pytest

from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.pipeline.packed import PackedConfig, load_any_config, pack, unpack

RAW = {
    "schema_version": 1,
    "name": "demo",
    "data": {"path": "data/rows.csv", "label": "late"},
    "features": {"hour": {"kind": "numeric"}},
}


def test_packing_is_the_same_every_time_and_opaque() -> None:
    text = pack(PackedConfig("demo", RAW, {"demo.schema.pbtxt": "é {{$}} ${HOME}"}))
    assert text == pack(PackedConfig("demo", RAW, {"demo.schema.pbtxt": "é {{$}} ${HOME}"}))
    assert not set(text) & set(" {}$'\"\n\\")
    assert unpack(text).files == {"demo.schema.pbtxt": "é {{$}} ${HOME}"}


def test_keys_keep_their_order() -> None:
    # That of the features decides in which order columns are hashed, and thereby the split.
    features = {"b": {"kind": "numeric"}, "a": {"kind": "numeric"}}
    found = unpack(pack(PackedConfig("demo", {**RAW, "features": features}))).raw
    assert list(found["features"]) == ["b", "a"]
    assert list(found) == list(RAW)


def test_relative_paths_start_at_the_root(tmp_path: Path) -> None:
    found = load_any_config(pack(PackedConfig("demo", RAW)), root=str(tmp_path))
    assert found.data.path == str(tmp_path / "data/rows.csv")
    assert found.output.runs == str(tmp_path / "runs")
    assert found.output.push == str(tmp_path / "push")
    assert found.validation.schema_path == str(tmp_path / "demo.schema.pbtxt")


def test_a_schema_travels_and_lies_where_its_content_says(tmp_path: Path) -> None:
    paths = [
        load_any_config(
            pack(PackedConfig("demo", RAW, {"demo.schema.pbtxt": text})), root=str(tmp_path)
        ).validation.schema_path
        for text in ("feature {}", "feature {}", "other {}")
    ]
    assert paths[0] == paths[1] != paths[2]
    assert Path(str(paths[0])).name == "demo.schema.pbtxt"
    assert Path(str(paths[0])).read_text() == "feature {}"


def test_overrides_reach_a_packed_config(tmp_path: Path) -> None:
    text = pack(PackedConfig("demo", RAW))
    found = load_any_config(text, ["seed=7"], texts=["data.label=0123"], root=str(tmp_path))
    assert (found.seed, found.data.label) == (7, "0123")


def test_a_uri_is_held_to_its_hash(tmp_path: Path) -> None:
    text = pack(PackedConfig("demo", RAW))
    file = tmp_path / "config.txt"
    file.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert load_any_config(file.as_uri(), root=str(tmp_path), sha256=digest).name == "demo"
    with pytest.raises(ConfigError, match=f"must have SHA-256 {'0' * 64}. Received: {digest}"):
        load_any_config(file.as_uri(), root=str(tmp_path), sha256="0" * 64)
    with pytest.raises(EnvironmentProblem, match=r"must be readable\. Received: .*nowhere"):
        load_any_config((tmp_path / "nowhere").as_uri(), root=str(tmp_path))


@pytest.mark.parametrize("text", ["gz:", "gz:AAAA", "gz:%%%", pack(PackedConfig("demo", RAW))[:60]])
def test_what_is_no_packed_config_is_told_in_one_message(text: str) -> None:
    with pytest.raises(ConfigError, match="must be what `headrace kubeflow compile` wrote"):
        unpack(text)


def test_a_packed_config_needs_a_root() -> None:
    with pytest.raises(ConfigError, match="needs `--root`"):
        load_any_config(pack(PackedConfig("demo", RAW)))


def test_own_modules_travel_and_are_searched_first(tmp_path: Path) -> None:
    packed = pack(PackedConfig("demo", RAW, code={"mine.py": "A = 1\n", "deep/er.py": "B = 2\n"}))
    one, again = (load_any_config(packed, root=str(tmp_path)) for _ in range(2))
    assert one.code == again.code
    assert Path(one.code, "mine.py").read_text() == "A = 1\n"
    assert Path(one.code, "deep/er.py").read_text() == "B = 2\n"
    other = load_any_config(pack(PackedConfig("demo", RAW, code={"mine.py": "A = 2\n"})), root=str(tmp_path))
    assert other.code != one.code
    assert load_any_config(pack(PackedConfig("demo", RAW)), root=str(tmp_path)).code == str(tmp_path)
