"""Pictures through ingest: folders of classes, paths in text, bytes in Parquet, and those that are broken."""

import io
import json
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from headrace.components.ingest.fingerprint import content_fingerprint
from headrace.components.ingest.run import run
from headrace.data.columns import RawColumn, plan_columns
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError, DataRejected
from headrace.data.readers import images
from headrace.data.readers.files import find_files
from headrace.data.readers.images import why_corrupt
from headrace.data.readers.rows import read_blocks, referenced_files
from headrace.data.source import check_source

from .test_ingest import context

FEATURES = {"image": {"kind": "image", "height": 4, "width": 4}}
COUNT = 60


def picture(number: int, mode: str = "RGB", kind: str = "PNG", **options: object) -> bytes:
    rng = np.random.default_rng(number)
    shape = (5 + number % 4, 6) if mode in ("L", "P") else (5 + number % 4, 6, 3)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder with 30 cats and 30 dogs, JPEG and PNG, one in a deeper folder."""
    root = tmp_path_factory.mktemp("pets")
    for number in range(COUNT):
        folder = root / ("cat" if number % 2 else "dog") / ("more" if number == 5 else "")
        folder.mkdir(parents=True, exist_ok=True)
        kind = "JPEG" if number % 3 else "PNG"
        (folder / f"{number}.{'jpg' if number % 3 else 'PNG'}").write_bytes(picture(number, kind=kind))
    (root / "cat" / ".hidden.png").write_text("x")
    (root / "cat" / "readme.txt").write_text("cats")
    (root / "notes.png").write_text("beside the classes")
    return root


def ingest(tmp_path, path, **data):
    features = data.pop("features", FEATURES)
    ctx = context(tmp_path, path, features=features, **{"split": {"method": "hash"}, **data})
    ctx.config["evaluation.slices"] = []
    run(ctx)
    told = json.loads(Path(ctx.outputs["examples"], "ingest.json").read_text())
    return ctx.outputs["examples"], told


def read_all(folder: str, *names: str) -> list[tuple]:
    """Read all examples with TensorFlow."""
    rows = []
    for path in tf.io.gfile.glob(f"{folder}/Split-*/*.gz"):
        for record in tf.data.TFRecordDataset(path, compression_type="GZIP").as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            values = (list(features[name].bytes_list.value) for name in names)
            rows.append(tuple(value[0] if value else None for value in values))
    return sorted(rows, key=str)


def test_a_folder_of_class_folders(pets, tmp_path):
    folder, told = ingest(tmp_path, pets, format="images", label="animal")
    files = [path for path in pets.glob("*/**/*.*") if path.suffix != ".txt" and path.name[0] != "."]
    expected = [(path.read_bytes(), path.relative_to(pets).parts[0].encode()) for path in files]
    assert len(files) == COUNT
    assert read_all(folder, "image", "animal") == sorted(expected, key=str)
    assert [(column["name"], column["type"]) for column in told["columns"]] == [
        ("image", "image"), ("animal", "string"),
    ]  # fmt: skip
    assert told["label"]["classes"] == ["cat", "dog"]
    assert len(told["files"]) == COUNT
    assert (told["corrupt"], told["corrupt_rows"]) == ([], 0)


def test_paths_in_text_start_at_the_text_file(pets, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(pets, root / "pets")
    paths = sorted(path.relative_to(root) for path in (root / "pets").glob("*/**/*.[jP]*"))
    table = pd.DataFrame({"image": [str(path) for path in paths]})
    table["y"] = [path.parts[1] for path in paths]
    table.loc[3, "image"] = None
    table.to_csv(root / "labels.csv", index=False)
    folder, told = ingest(tmp_path, root / "labels.csv")
    expected = [
        (path and (root / path).read_bytes(), y.encode()) for path, y in table.replace({np.nan: None}).values
    ]
    assert read_all(folder, "image", "y") == sorted(expected, key=str)
    assert sum(told["columns"][0]["missing"].values()) == 1
    assert {entry["path"] for entry in told["files"]} == {"labels.csv", *table["image"].dropna()}


@pytest.mark.parametrize("stored", ["bytes", "struct"])
def test_bytes_in_parquet(tmp_path, stored):
    contents = [picture(number) for number in range(COUNT)]
    values = pa.array(contents)
    if stored == "struct":
        values = pa.StructArray.from_arrays([values, pa.array(["x.png"] * COUNT)], ["bytes", "path"])
    pq.write_table(pa.table({"image": values, "y": ["u", "v"] * (COUNT // 2)}), tmp_path / "a.parquet")
    folder, _ = ingest(tmp_path, tmp_path / "a.parquet")
    assert [row[0] for row in read_all(folder, "image")] == sorted(contents, key=str)


def test_corrupt_pictures_are_left_out_by_name(pets, tmp_path):
    root = tmp_path / "pets"
    shutil.copytree(pets, root)
    (root / "cat" / "cut.jpg").write_bytes(picture(1, kind="JPEG")[:300])
    (root / "dog" / "letter.png").write_text("Dear Sir")
    (root / "dog" / "moving.gif").write_bytes(picture(1, "P", "GIF"))
    folder, told = ingest(tmp_path, root, format="images", label="animal")
    assert told["rows"] == len(read_all(folder, "animal")) == COUNT
    assert told["corrupt_rows"] == 3
    assert {entry["path"]: entry["reason"] for entry in told["corrupt"]} == {
        "cat/cut.jpg": "Truncated File Read",
        "dog/letter.png": "not a JPEG or PNG file",
        "dog/moving.gif": "not a JPEG or PNG file",
    }


def test_missing_files_are_corrupt_and_rows_keep_their_numbers(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    path = tmp_path / "rows.csv"
    path.write_text("image,y\na.png,u\nnone.png,u\na.png,v\n")
    data = DataConfig(path=str(path), label="y")
    (block,) = read_blocks([str(path)], data, [RawColumn("image", "image"), RawColumn("y", "string")])
    assert block.batch.column(1).to_pylist() == ["u", "v"]
    assert [(fault.path, fault.reason) for fault in block.corrupt] == [
        ("none.png", "the file does not exist")
    ]
    assert [block.place(index) for index in (0, 1)] == [
        f"row 1, line 2 of {path}",
        f"row 3, line 4 of {path}",
    ]


def test_nothing_but_corrupt_pictures_is_rejected(tmp_path):
    for name in ("u", "v"):
        (tmp_path / "pics" / name).mkdir(parents=True)
        (tmp_path / "pics" / name / "a.png").write_text("x")
    with pytest.raises(DataRejected, match=r"must be decodable\. Received: none of 2; u/a\.png: not a JPEG"):
        ingest(tmp_path, tmp_path / "pics", format="images")


def test_blocks_are_bounded_by_the_size_of_pictures(pets, monkeypatch):
    monkeypatch.setattr(images, "_BLOCK_BYTES", 1000)
    data = DataConfig(path=str(pets), format="images", label="animal")
    columns = [RawColumn("image", "image"), RawColumn("path", "string")]
    blocks = list(read_blocks(find_files(data), data, columns))
    sizes = [sum(map(len, block.batch.column(0).to_pylist())) for block in blocks]
    largest = max(path.stat().st_size for path in pets.glob("*/**/*.*"))
    assert all(1000 <= size < 1000 + largest for size in sizes[:-1])
    paths = [path for block in blocks for path in block.batch.column(1).to_pylist()]
    assert paths == [str(Path(path).relative_to(pets)) for path in find_files(data)]
    assert [block.row_of(0) for block in blocks] == [
        1,
        *np.cumsum([b.batch.num_rows for b in blocks])[:-1] + 1,
    ]


def crushed(number: int) -> bytes:
    """Return a PNG whose data is whole but for the checksum of its last chunk of pixels."""
    content = bytearray(picture(number))
    at = content.index(b"IDAT")
    (size,) = struct.unpack(">I", content[at - 4 : at])
    content[at + 4 + size] ^= 1
    return bytes(content)


def many_pixels(side: int) -> bytes:
    """Return the beginning of a PNG of `side` x `side` pixels."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(b"0"))
    parts = (
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def frames() -> bytes:
    first, second = (Image.open(io.BytesIO(picture(number))) for number in (0, 4))
    buffer = io.BytesIO()
    first.save(buffer, "PNG", save_all=True, append_images=[second])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (picture(1), ""),
        (picture(1, "L"), ""),
        (picture(1, "P"), ""),
        (picture(1, "RGBA"), ""),
        (picture(1, "1"), ""),
        (picture(1, "L", "JPEG"), ""),
        (picture(1, "RGB", "JPEG", progressive=True), ""),
        (b"", "the file is empty"),
        (b"<html>", "not a JPEG or PNG file"),
        (picture(1, "P", "GIF"), "not a JPEG or PNG file"),
        (picture(1, "CMYK", "JPEG"), "CMYK pixels, neither grey nor RGB"),
        (frames(), "animated: 2 pictures"),
        (picture(1)[:40], ".+"),
        (picture(1)[:-20], ".+"),
        (picture(1, kind="JPEG")[:-20], ".+"),
        (picture(1, kind="JPEG")[:8], ".+"),
        (crushed(1), ".+"),
        (many_pixels(9_000), "too many pixels"),
        (many_pixels(20_000), "too many pixels"),
    ],
)
def test_what_counts_as_corrupt(content, reason):
    assert re.fullmatch(reason, why_corrupt(content)), why_corrupt(content)


@pytest.mark.parametrize("number", range(8))
def test_what_passes_is_decoded_by_tensorflow(number):
    """No picture that ingest lets through may stop the transform."""
    for mode in ("RGB", "L", "P", "RGBA", "1"):
        content = picture(number, mode)
        assert why_corrupt(content) == ""
        assert tf.io.decode_image(content, channels=3, expand_animations=False).shape == (
            5 + number % 4,
            6,
            3,
        )


def test_a_changed_picture_changes_the_fingerprint(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    path = tmp_path / "rows.csv"
    path.write_text("image,y\na.png,u\nnone.png,u\n")
    data = DataConfig(path=str(path), label="y")
    plan = plan_columns(data, [("image", "image")])
    files = referenced_files([str(path)], data, plan.read)
    assert files == [str(tmp_path / "a.png")]
    before = content_fingerprint([str(path), *files])
    (tmp_path / "a.png").write_bytes(picture(2))
    assert content_fingerprint([str(path), *files]) != before


def images_config(root, **data):
    return DataConfig.model_validate({"path": str(root), "format": "images", "label": "animal", **data})


def test_a_folder_must_hold_two_classes(tmp_path):
    with pytest.raises(ConfigError, match="must be a folder with a folder for each class"):
        check_source(
            images_config(tmp_path / "none"), plan_columns(images_config(tmp_path), [("image", "image")])
        )
    (tmp_path / "cat").mkdir()
    with pytest.raises(ConfigError, match=r"must have a folder with JPEG or PNG files\. Received: none in"):
        check_source(images_config(tmp_path), plan_columns(images_config(tmp_path), [("image", "image")]))
    (tmp_path / "cat" / "a.jpg").write_bytes(picture(1, kind="JPEG"))
    with pytest.raises(ConfigError, match=r"each of two classes or more\. Received: 1, 'cat'"):
        check_source(images_config(tmp_path), plan_columns(images_config(tmp_path), [("image", "image")]))


@pytest.mark.parametrize(
    ("data", "usages", "message"),
    [
        ({}, [("photo", "image")], r"no column 'photo' \(features"),
        ({}, [("image", "text")], r"column 'image' is image\. Received: string"),
        ({}, [("path", "number")], r"column 'path' is string\. Received: float"),
        (
            {"task": "regression"},
            [("image", "image")],
            r"column 'animal' is a label of its own: the class folder",
        ),
        ({"label": "path"}, [("image", "image")], r"column names must differ\. Received: 'path' twice"),
    ],
)
def test_columns_of_a_folder(pets, data, usages, message):
    config = images_config(pets, **data)
    with pytest.raises(ConfigError, match=message):
        check_source(config, plan_columns(config, usages))
