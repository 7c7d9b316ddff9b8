"""`headrace predict`: files in, files out, whole or not at all."""

import gzip
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from headrace.data.config import CsvOptions, DataConfig
from headrace.data.errors import ConfigError, HeadraceError
from headrace.data.readers.files import delimiter_of
from headrace.pipeline.predict import PredictOptions, predict_command, predict_file
from headrace.serving.allowed import ForbiddenOps
from headrace.serving.client import RequestFailed
from headrace.serving.client.csv_form import CsvForm
from headrace.serving.columns import InvalidRow
from headrace.serving.images import encode_png
from tests.serving import client_models
from tests.serving.client_models import Served, serving
from tests.serving.graphs import edit

CSV = 'id,price,name,steps\nx1,10,tea,"[1, 2]"\nx2,,NA,\n\nx3,5e1,"two\nlines",[0.5]\n'
YES = [0.1 + 0.03 + 0.03, 0.25, 0.5 + 0.09 + 0.005]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("models")
    client_models.shop(root / "shop" / "1")
    client_models.tags(root / "tags" / "1")
    client_models.value(root / "value" / "1")
    client_models.picture(root / "picture" / "1")
    with serving(root, ("shop", "tags", "value", "picture")) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(CSV)
    return tmp_path


def predict(served: Served, model: str = "shop", **options: Any) -> list[str]:
    """Predict by the REST door with the pushed labels; return what was said."""
    said: list[str] = []
    options = {"labels": str(served.root / model), "input": "rows.csv", **options}
    predict_file(PredictOptions(served.rest(model), **options), said.append)
    return said


def test_a_table_of_text_gives_every_kind_of_file(served: Served, folder: Path) -> None:
    for name in ("out.parquet", "out.csv", "out.jsonl"):
        said = predict(served, output=name, keep=("id",))
        assert said[-1].startswith("3 rows in ")
        assert said[-1].endswith("; decided by threshold 0.3 of labels.json")
    whole = pq.read_table("out.parquet")
    assert whole.schema.names == ["id", "class", "probability", "score_no", "score_yes"]
    assert whole.schema.field("score_yes").type == pa.float32()
    assert whole["id"].to_pylist() == ["x1", "x2", "x3"]
    assert whole["class"].to_pylist() == ["no", "no", "yes"]
    np.testing.assert_allclose(whole["score_yes"], YES, atol=1e-6)
    np.testing.assert_allclose(whole["probability"], [1 - YES[0], 1 - YES[1], YES[2]], atol=1e-6)
    text = pa.csv.read_csv("out.csv")
    assert text.schema.names == whole.schema.names
    np.testing.assert_allclose(text["score_yes"], YES, atol=1e-6)
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["x1", "x2", "x3"]
    assert lines[2]["class"] == "yes"
    np.testing.assert_allclose([line["scores"]["yes"] for line in lines], YES, atol=1e-6)
    assert sorted(path.name for path in folder.iterdir()) == [
        "out.csv",
        "out.jsonl",
        "out.parquet",
        "rows.csv",
    ]


def test_every_kind_of_file_is_read(served: Served, folder: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"price": 10, "name": "tea", "steps": [1.0, 2.0]},
        {"price": None, "name": None, "steps": None},
        {"price": 50.0, "name": "two\nlines", "steps": [0.5]},
    ]
    lines = "\n\n".join(map(json.dumps, rows)) + "\n"
    (folder / "rows.jsonl").write_text(lines)
    (folder / "rows.ndjson.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "rows.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + CSV.encode()))
    (folder / "rows.tsv").write_text('price\tname\tsteps\n10\ttea\t[1,2]\n\t\t\n50\t"two\nlines"\t[0.5]\n')
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    for name in ("rows.jsonl", "rows.ndjson.gz", "rows.csv.gz", "rows.tsv", "rows.parquet"):
        predict(served, input=name, output="out.parquet", ignore_unknown=True)
        np.testing.assert_allclose(pq.read_table("out.parquet")["score_yes"], YES, atol=1e-6)


def test_many_blocks_are_put_together_in_order(
    served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.pipeline.predict._BLOCK_ROWS", 100)
    monkeypatch.setattr("headrace.pipeline.predict._PROGRESS_S", 0.0)
    (folder / "rows.csv").write_text("x\n" + "".join(f"{number}\n" for number in range(1, 1001)))
    pq.write_table(pa.table({"x": np.arange(1, 1001), "id": np.arange(1000)}), "rows.parquet")
    for source, keep in (("rows.csv", ()), ("rows.parquet", ("id",))):
        for output in ("out.parquet", "out.csv"):
            said = predict(served, "value", input=source, output=output, keep=keep, batch_rows=60)
            whole = pq.read_table(output) if output.endswith("t") else pa.csv.read_csv(output)
            assert whole["output"].to_pylist() == [2.0 * number for number in range(1, 1001)]
            assert not keep or whole["id"].to_pylist() == list(range(1000))
            assert any(text.startswith("160" + (" of 1,000" if keep else "") + " rows, ") for text in said)


def test_multilabel_results_are_lists(served: Served, folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"text": "ab"}\n{"text": ""}\n{"text": "cb"}\n')
    for name in ("out.parquet", "out.csv", "out.jsonl"):
        predict(served, "tags", input="rows.jsonl", output=name)
    assert pq.read_table("out.parquet")["classes"].to_pylist() == [["a", "b"], [], ["b", "c"]]
    assert [line.split(",")[0] for line in Path("out.csv").read_text().splitlines()] == [
        "classes",
        "a|b",
        "",
        "b|c",
    ]
    assert json.loads(Path("out.jsonl").read_text().splitlines()[2])["classes"] == ["b", "c"]


def test_stdin_to_stdout(
    served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"price": 31.23456789}\n'))
    said: list[str] = []
    predict_command(
        (served.rest("shop"), None), (None, None), {"labels": str(served.root / "shop")}, said.append
    )
    scores = {"no": 0.687654, "yes": 0.312346}
    assert json.loads(capsys.readouterr().out) == {"class": "yes", "scores": scores}
    assert said == []
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"price": 31.23456789}\n'))
    predict_command((None, None), (served.grpc("shop"), None), {}, said.append)
    line = json.loads(capsys.readouterr().out)
    assert line["class"] == "no"
    assert line["scores"]["yes"] == float(str(np.float32(0.3123456789)))
    assert said[0].endswith(
        "largest score, since the server tells no threshold (labels= or threshold= gives it)"
    )


def test_empty_stdin_is_an_error(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(ConfigError, match=r"rows must be at least one. Received: none \(stdin\)") as caught:
        predict_command((served.rest("shop"), None), (None, None), {}, lambda _: None)
    assert caught.value.hint == "--input names a file of rows"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.jsonl",
            '{"price": 1}\n\n{"price": "x"}\n',
            r"must be a number. Received: 'x'.*\(line 3 of a.jsonl, ",
        ),
        (
            "a.jsonl",
            '{"price": 1}\n\n{"prise": 1}\n',
            r"Received: 'prise' \(line 3 of a.jsonl, column 'prise'\); did you mean 'price'\?",
        ),
        ("a.jsonl", '{"price": 1}\n\n{"price":\n', r"a JSON object. .*character 10\) \(line 3 of a.jsonl\)"),
        ("a.jsonl", "[1]\n", r"must be a JSON object. Received: \[1\] \(line 1 of a.jsonl\)"),
        (
            "a.csv",
            'price,name\n1,"a\nb"\nx,c\n',
            r"must be a number. Received: 'x' \(line 4 of a.csv, column",
        ),
        ("a.csv", "price,name\n1_000,c\n", r"must be a number. Received: '1_000' \(line 2 of a.csv, column"),
        ("a.csv", "price,name\n1,c\n2\n", r"the 2 fields of the header. Received: 1 \(line 3 of a.csv\)"),
        ("a.csv", "price,price\n1,2\n", r"must have its own name. Received: 'price' twice"),
        (
            "a.csv",
            "prise,name\n1,c\n",
            r"name no others. Received: 'prise', and none for 'photo', 'price', 'steps'",
        ),
        (
            "a.csv",
            "id,day,prise\n1,2,3\n",
            r"Received: 'prise', and none for .*\(a.csv\); did you mean 'price'\?; --ignore-unknown",
        ),
        ("a.csv", "id,day\n1,2\n", r"Received: 'id', 'day', and none for .*; --ignore-unknown passes"),
        ("a.csv", "id\n1\n", r"Received: 'id', and none for .*; the delimiter may be another than ','"),
        (
            "a.csv",
            "id;price;name\n7;1;a\n",
            r"separated by ','. Received: 'id;price;name', which names columns of .* at ';' \(a.csv",
        ),
        ("a.tsv", "price,name\n1,a\n", r"separated by '\\t'. Received: 'price,name', .* at ','"),
        ("a.csv", "steps\n5\n", r"must be a JSON list of numbers. Received: '5' \(line 2 of a.csv"),
        ("a.csv", "price\n1\n\xff", "text must be UTF-8"),
        ("a.csv", "price\n", "rows must be at least one. Received: none"),
        ("a.parquet", "junk", "must be a readable Parquet file. Received: "),
        ("none.csv", None, "rows must be a readable file. Received: .*none.csv"),
        ("a.txt", "x", r"rows must be a file of .csv, .*Received: a.txt"),
    ],
)
def test_what_cannot_be_read_is_named_and_leaves_nothing(
    served: Served, folder: Path, name: str, content: str | None, words: str
) -> None:
    if content is not None:
        (folder / name).write_text(content, encoding="latin-1")
    before = sorted(folder.iterdir())
    for output in ("out.parquet", "out.csv"):
        with pytest.raises((ConfigError, InvalidRow), match=words) as caught:
            predict(served, input=name, output=output)
        assert caught.value.exit_code == 2
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("form", "good", "bad"), [("", "2024-12-31", "31/12/2024"), ("%d/%m/%Y", "31/12/2024", "2024-12-31")]
)
def test_a_text_that_is_no_date_is_named_by_its_line(
    served: Served, folder: Path, form: str, good: str, bad: str
) -> None:
    label = json.loads((served.root / "shop/1/assets.extra/labels.json").read_text())
    (folder / "labels.json").write_text(json.dumps({**label, "dates": {"name": form}}))
    (folder / "a.jsonl").write_text(f'{{"price": 1, "name": "{good}"}}\n{{"price": 2}}\n')
    (folder / "a.csv").write_text(f"price,name\n1,{good}\n2,\n")
    for name, line in (("a.jsonl", '{"name": "BAD"}\n'), ("a.csv", "3,BAD\n")):
        predict(served, input=name, labels="labels.json", output="out.csv")
        place = {"a.jsonl": 3, "a.csv": 4}[name]
        with (folder / name).open("a") as stream:
            stream.write(line.replace("BAD", bad))
        with pytest.raises(InvalidRow, match=rf"Received: '{bad}' \(line {place} of {name}, column 'name'\)"):
            predict(served, input=name, labels="labels.json", output="out.csv")


def _told(served: Served, csv: Any) -> str:
    """Write the labels of the shop with what they tell of delimited text."""
    label = json.loads((served.root / "shop/1/assets.extra/labels.json").read_text())
    Path("labels.json").write_text(json.dumps({**label, "csv": csv}))
    return "labels.json"


def test_text_is_read_as_the_data_of_the_training_was(served: Served, folder: Path) -> None:
    labels = _told(served, {"delimiter": ";", "encoding": "latin-1", "null_values": ["", "?"]})
    (folder / "a.csv").write_text("id;price;name\n1;?;NA\n2;10;?\n3;10;\xe9\n", encoding="latin-1")
    predict(served, input="a.csv", labels=labels, output="out.csv", keep=("id",))
    table = pa.csv.read_csv("out.csv")
    assert table["id"].to_pylist() == [1, 2, 3]
    # As client_models.shop_yes counts: a missing price is 0.25, a byte of a name 0.01; e acute has two.
    np.testing.assert_allclose(table["score_yes"], [0.25 + 0.02, 0.1, 0.1 + 0.02], atol=1e-6)
    (folder / "a.tsv").write_text("price\tname\n10\tNA\n")
    labels = _told(served, {"null_values": ["?"]})
    predict(served, input="a.tsv", labels=labels, output="out.csv")
    np.testing.assert_allclose(pa.csv.read_csv("out.csv")["score_yes"], [0.12], atol=1e-6)
    (folder / "a.csv").write_text("price\nNA\n")
    with pytest.raises(InvalidRow, match=r"must be a number. Received: 'NA' \(line 2 of a.csv"):
        predict(served, input="a.csv", labels=labels, output="out.csv")


def test_labels_without_a_csv_read_as_the_defaults_of_a_config(served: Served) -> None:
    plain = CsvOptions()
    assert CsvForm() == CsvForm.of(None, "") == CsvForm.of({}, "")
    assert CsvForm.of(plain.model_dump(mode="json"), "") == CsvForm()
    for name in ("a.csv", "b.tsv", "C.TSV.GZ"):
        for delimiter in (",", ";"):
            data = DataConfig.model_validate({"path": name, "label": "y", "csv": {"delimiter": delimiter}})
            assert CsvForm(delimiter).delimiter_of(name) == delimiter_of(name, data)


@pytest.mark.parametrize(
    "csv", [[], {"delimiter": ";;"}, {"encoding": "klingon"}, {"null_values": "?"}, {"null_values": [1]}]
)
def test_labels_that_tell_no_form_of_text_are_refused(served: Served, folder: Path, csv: Any) -> None:
    with pytest.raises(ConfigError, match=r"`csv` must be an object with .*\(labels.json\)"):
        predict(served, labels=_told(served, csv), output="out.csv")


def test_a_wrong_delimiter_is_refused_whatever_is_passed_over(served: Served, folder: Path) -> None:
    (folder / "a.csv").write_text("price;id\n1;7\n")
    with pytest.raises(InvalidRow, match=r"cut at ';'.*--labels tells the delimiter"):
        predict(served, input="a.csv", output="out.csv", ignore_unknown=True)


def test_an_error_late_in_a_file_leaves_the_old_result(
    served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("headrace.pipeline.predict._BLOCK_ROWS", 10)
    (folder / "rows.csv").write_text("x\n" + "1\n" * 25 + "?\n")
    (folder / "out.csv").write_text("old")
    for output in ("out.csv", "-"):
        with pytest.raises(InvalidRow, match=r"Received: '\?' \(line 27 of rows.csv, column 'x'\)"):
            predict(served, "value", output=output)
    assert (folder / "out.csv").read_text() == "old"
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in folder.iterdir()) == ["out.csv", "rows.csv"]


def test_more_and_fewer_columns_are_told(served: Served, folder: Path) -> None:
    (folder / "rows.csv").write_text("price,name,steps,photo,id\n1,a,,,7\n")
    assert predict(served, output="out.csv")[0] == "note: passed over, since the model does not read them: id"
    (folder / "rows.csv").write_text("price\n1\n")
    assert predict(served, output="out.csv")[0] == (
        "note: not in rows.csv, so missing in every row: name, photo, steps"
    )
    (folder / "rows.csv").write_text("price,id\n1,7\n")
    predict(served, output="out.csv", ignore_unknown=True)
    predict(served, output="out.csv", keep=("id",))
    with pytest.raises(ConfigError, match=r"a kept column must be in the file. Received: 'ids'"):
        predict(served, output="out.csv", keep=("ids",))


def test_a_kept_column_does_not_hide_a_result(served: Served, folder: Path) -> None:
    for output, name in (("out.parquet", "probability"), ("out.csv", "class"), ("out.jsonl", "class")):
        (folder / "rows.csv").write_text(f"price,name,steps,photo,{name}\n1,a,,,7\n")
        with pytest.raises(ConfigError, match=f"must not be named as a result is. Received: '{name}'"):
            predict(served, output=output, keep=(name,))
    assert [path.name for path in folder.iterdir()] == ["rows.csv"]


def test_pictures_lie_beside_the_rows(served: Served, folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (inner / "one.png").write_bytes(b"\x89PNG" + bytes(96))
    (inner / "rows.csv").write_text("price,photo\n10,one.png\n10,\n")
    (inner / "rows.jsonl").write_text('{"price": 10, "photo": "one.png"}\n{"price": 10}\n')
    pq.write_table(pa.table({"price": [10, 10], "photo": ["one.png", None]}), inner / "rows.parquet")
    for name in ("rows.csv", "rows.jsonl", "rows.parquet"):
        predict(served, input=f"inner/{name}", output="out.parquet", images=("photo",))
        np.testing.assert_allclose(pq.read_table("out.parquet")["score_yes"], [0.2, 0.1], atol=1e-6)


@pytest.mark.parametrize("scheme", ["rest", "grpc"])
def test_pictures_that_a_server_refuses_are_named_by_their_lines(
    served: Served, folder: Path, scheme: str
) -> None:
    content = encode_png(np.full((2, 2, 3), 51, np.uint8))
    (folder / "one.png").write_bytes(content)
    (folder / "cut.png").write_bytes(content[:-20])
    (folder / "a.csv").write_text("photo\none.png\none.png\none.png\ncut.png\n")
    url = served.url(scheme, "picture")

    def hint(**options: Any) -> str:
        with pytest.raises(RequestFailed, match="INVALID_ARGUMENT: ") as caught:
            predict_file(PredictOptions(url, "a.csv", "out.csv", **options), lambda _: None)
        return caught.value.hint

    assert hint(batch_rows=2) == (
        "if a column holds paths of pictures, name it by --images COLUMN; "
        "the request held line 2 of a.csv to line 3 of a.csv; --batch-rows 1 finds the row"
    )
    assert hint(batch_rows=2, images=("photo",)) == (
        "the request held line 4 of a.csv to line 5 of a.csv; --batch-rows 1 finds the row"
    )
    assert hint(batch_rows=1, images=("photo",)) == "the request held line 5 of a.csv"
    (folder / "a.csv").write_text("photo\none.png\n")
    predict_file(PredictOptions(url, "a.csv", "out.csv", images=("photo",)), lambda _: None)
    assert pa.csv.read_csv("out.csv")["output"].to_pylist() == pytest.approx([51 / 255])


def test_pictures_that_a_folder_refuses_are_named_by_their_line(served: Served, folder: Path) -> None:
    content = encode_png(np.full((2, 2, 3), 51, np.uint8))
    (folder / "one.png").write_bytes(content)
    (folder / "cut.png").write_bytes(content[:-20])
    (folder / "a.csv").write_text("photo\n" + "one.png\n" * 6 + "cut.png\none.png\ncut.png\n")
    model = str(served.root / "picture")
    with pytest.raises(InvalidRow, match=r"model can read. Received: .*PNG.* \(line 8 of a.csv\)"):
        predict_file(PredictOptions(model, "a.csv", "out.csv", images=("photo",)), lambda _: None)
    with pytest.raises(InvalidRow, match=r"JPEG or PNG file .* \(line 2 of a.csv\); .*--images COLUMN"):
        predict_file(PredictOptions(model, "a.csv", "out.csv"), lambda _: None)


@pytest.mark.parametrize(
    ("short", "named", "rest", "words"),
    [
        ((None, None), (None, None), {}, "`--model` must name a model. Received: none"),
        (("a", None), ("b", None), {}, "`--model` must be given once. Received: a and b"),
        (("a", "b"), (None, "c"), {}, "`--input` must be given once. Received: b and c"),
        (("nowhere", None), (None, None), {}, "a bundle must be a folder with model.tflite"),
        (("ftp://a/b", None), (None, None), {}, "URL must begin with .*Received: ftp://a/b"),
        (("http://a/m", None), (None, None), {}, "URL must begin with .*Received: http://a/m"),
        (
            ("nowhere", None),
            (None, None),
            {"output": "x.xls"},
            "results must be a file of .csv.*Received: x.xls",
        ),
        (("nowhere", None), (None, None), {"output": "no/x.csv"}, "folder that is there. Received: no/x.csv"),
        (("nowhere", None), (None, None), {"key": "k"}, "certificates need a URL"),
    ],
)
def test_usage_is_checked_first(folder: Path, short: Any, named: Any, rest: Any, words: str) -> None:
    with pytest.raises(HeadraceError, match=words) as caught:
        predict_command(short, named, rest, lambda _: None)
    assert caught.value.exit_code == 2


def test_a_server_that_is_not_there(folder: Path) -> None:
    options = PredictOptions("http://127.0.0.1:1/v1/models/m", "rows.csv", "out.csv", timeout_s=0.2)
    with pytest.raises(RequestFailed, match=r"UNAVAILABLE: no connection: .*refused") as caught:
        predict_file(options, lambda _: None)
    assert caught.value.exit_code == 1
    assert [path.name for path in folder.iterdir()] == ["rows.csv"]


def test_operators_that_a_model_must_not_hold(tmp_path):
    client_models.shop(tmp_path / "m" / "1")
    edit(tmp_path / "m" / "1", lambda graph: graph.graph_def.node.add(name="odd", op="Abort"))
    (tmp_path / "q.csv").write_text("price\n50\n")
    options = PredictOptions(str(tmp_path / "m"), str(tmp_path / "q.csv"), str(tmp_path / "out.csv"))
    with pytest.raises(ForbiddenOps, match=r"Received: Abort \(end or stop the process\)"):
        predict_file(options, print)
    assert predict_file(replace(options, allow_ops="ReadFile, Abort"), print) == 1
    with pytest.raises(ConfigError, match="`--allow-ops` needs the folder of a SavedModel"):
        predict_file(replace(options, model="http://localhost:1/v1/models/m", allow_ops="Abort"), print)
