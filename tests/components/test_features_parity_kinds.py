"""Graph and sidecar on texts, series and pictures that are meant to tell them apart."""

import base64
import io
import itertools
import math
import random
import re
import struct
import unicodedata
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from headrace.components.features.golden import encode_rows
from headrace.components.features.graph import Column
from headrace.components.features.outputs import Picture, Tokenizer
from headrace.components.features.pictures import SCALES, _count_pixels, build_picture
from headrace.components.features.signatures import FittedTransform
from headrace.components.features.texts import split_tokens
from headrace.data.readers.images import why_corrupt
from headrace.serving.characters import character_rules
from headrace.serving.columns import InvalidRow
from headrace.serving.images import InvalidImage, decode_image
from headrace.serving.preprocessing import Preprocessor
from headrace.serving.raw import raw_columns
from headrace.serving.text import Tokenizer as DeviceTokenizer

from .kinds import TYPES, fitted_kinds, random_row, save_picture

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pair() -> tuple[FittedTransform, Preprocessor]:
    """The graph and the sidecar of one fitted transform."""
    graph = fitted_kinds().folder / "graph"
    return FittedTransform(str(graph)), Preprocessor.load(str(graph / "headrace" / "preprocessing.json"))


PIECES = [
    "", " ", "\t\n", "\x00", "\x85", "\u2028", "\u3000", "\u00ad", "\u200d", "\ufeff", "\ufffd", "'", "’",
    "''", "a'b", "'a", "a'", "don’t", "İ", "ı", "ẞ", "ß", "Σ", "ς", "ǅ", "ﬁ", "Ⅷ", "é", "e\u0301", "\u0301",
    "\u212b", "Å", "한국어", "東京", "ไทย", "हिन्दी", "\u200fעברית", "مرحبا", "👩\u200d💻", "🇳🇴", "x" * 300,
    "a b  c", "1,000.5", "_", "#tag", "@me", "http://a.b/c?d=e", "\U0010ffff", "\U000e0100", "\ue000", "the",
    "GOOD", "it", "café", "Straße",
]  # fmt: skip
NUMBERS = [0.0, -0.0, 1e-45, 3.4e38, -1e30, 1000.0, 983.628, -2.0, 1e-8, None, None, None, math.nan]


def odd_row(draw: random.Random) -> dict[str, Any]:
    """Draw a row whose texts and lists are ordinary, missing, empty, long or not of this world."""
    row = random_row(draw)
    if draw.random() < 0.6:
        row["review"] = "".join(
            draw.choice(["", " "]) + draw.choice(PIECES) for _ in range(draw.randrange(20))
        )
    for name in ("left", "right"):
        if draw.random() < 0.5:
            row[name] = draw.choices(NUMBERS, k=draw.choice([0, 1, 2, 5, 9, 40]))
    return row


def assert_same(found: Any, expected: Any, name: str) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype == np.int64:
        np.testing.assert_array_equal(found, expected, err_msg=name)
        return
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))  # sums beyond float32
    with np.errstate(invalid="ignore"):
        allowed = same | (np.abs(found - expected) <= 1e-5 * np.maximum(1, np.abs(expected)))
    assert allowed.all(), name


@pytest.mark.parametrize("seed", range(4))
def test_odd_rows_agree(pair: tuple[FittedTransform, Preprocessor], seed: int) -> None:
    transform, sidecar = pair
    draw = random.Random(seed)
    rows = [odd_row(draw) for _ in range(1000)]
    types: Any = TYPES
    found = sidecar.transform(rows)
    by_examples = transform.from_examples(tf.constant(encode_rows(rows, types)))
    by_raw = transform.from_raw(raw_columns(rows, types))
    for wanted in (by_examples, by_raw):
        assert set(found) == set(wanted)
        for name, tensor in wanted.items():
            assert_same(found[name], tensor.numpy(), name)


TOKENIZERS = [
    Tokenizer(lower, strip, tokens, ngrams)
    for lower, strip in ((True, True), (True, False), (False, True), (False, False))
    for tokens in ("words", "characters")
    for ngrams in ((1, 1), (1, 2), (2, 3))
]


def device(tokenizer: Tokenizer) -> DeviceTokenizer:
    options = (tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokens, tokenizer.ngrams)
    return DeviceTokenizer(character_rules(), *options)


def graph_tokens(texts: Any, tokenizer: Tokenizer) -> list[list[str]]:
    found = split_tokens(tf.constant(texts), tokenizer).to_list()
    return [[token.decode() for token in row] for row in found]


@pytest.mark.parametrize("tokenizer", [TOKENIZERS[0], TOKENIZERS[3], TOKENIZERS[15], TOKENIZERS[21]])
def test_every_code_point_is_cut_alike(tokenizer: Tokenizer) -> None:
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    # In between letters, so that joining shows; 64 to a text.
    texts = ["b".join(map(chr, codes[start : start + 64])) for start in range(0, len(codes), 64)]
    assert device(tokenizer).split(texts) == graph_tokens(texts, tokenizer)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_odd_texts_are_cut_alike(tokenizer: Tokenizer) -> None:
    draw = random.Random(str(tokenizer))
    texts = ["".join(draw.choices(PIECES, k=draw.randrange(12))) for _ in range(500)] + [
        "",
        " ",
        "a" * 100_000,
    ]
    assert device(tokenizer).split(texts) == graph_tokens(texts, tokenizer)
    assert device(tokenizer).split([]) == graph_tokens(tf.zeros([0], tf.string), tokenizer) == []


@pytest.mark.parametrize("tokenizer", [TOKENIZERS[0], TOKENIZERS[3]])
def test_bad_bytes_are_cut_alike(tokenizer: Tokenizer) -> None:
    draw = random.Random(9)
    starts = b"\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\x80\xc3\xa9\xc0\xaf\xf8a \xef\xbb\xbf\xfe\xff"
    texts = [bytes(draw.choice((draw.choice(starts), draw.randrange(256))) for _ in range(draw.randrange(12)))
             for _ in range(5000)]  # fmt: skip
    given = [text.decode("utf-8", "surrogateescape") for text in texts]  # as rows hold bytes
    assert device(tokenizer).split(given) == graph_tokens(texts, tokenizer)


def test_what_a_word_is() -> None:
    words = device(Tokenizer(True, True, "words", (1, 1))).split
    assert words(["Don't say “É́”, it's 3.5\u00a0€ — ΟΔΟΣ!"]) == [
        ["don't", "say", "“", "e", "”", ",", "it's", "3", ".", "5", "€", "—", "οδοσ", "!"]
    ]
    assert words(["'quoted' rock'n'roll o''clock co\u00adoperate हिन्दी"]) == [
        ["'", "quoted", "'", "rock'n'roll", "o", "'", "'", "clock", "cooperate", "हिनदी"]
    ]
    characters = device(Tokenizer(False, False, "characters", (2, 2))).split
    assert characters([" a\t b\n", "x", ""]) == [["a ", " b"], [], []]


def test_tables_follow_unicode() -> None:
    rules = character_rules()
    assert rules["unicode"] == unicodedata.unidata_version
    lower, base = dict(rules["lower"]), dict(rules["base"])
    assert chr(lower[ord("Σ")]) == chr(lower[ord("ς")]) == "σ"
    assert chr(lower[0x130]) == "i"
    assert {chr(base[ord(c)]) for c in "éèêëē"} == {"e"}
    assert not set(lower.values()) & set(lower)  # folding twice changes nothing
    assert not set(base.values()) & set(base)
    letters = {code for first, last in rules["letters"] for code in range(first, last + 1)}
    assert letters == {code for code in range(0x110000) if unicodedata.category(chr(code))[0] in "LMN"}


def natural(height: int, width: int, seed: int = 0) -> Any:
    """Paint smooth colours with noise, as a Pillow image."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    waves = np.stack([127 + 120 * np.sin(9 * columns + 5 * rows * k + k) for k in range(3)], axis=-1)
    return Image.fromarray(np.clip(waves + noise, 0, 255).astype(np.uint8))


def deep_png(depth: int, kind: int, channels: int) -> bytes:
    """Return a PNG of 5 x 4 random pixels with 16 bits, or 8 x 4 of fewer."""
    draw = random.Random(depth + kind)
    size = 5 * channels * 2 if depth == 16 else depth
    lines = b"".join(b"\0" + draw.randbytes(size) for _ in range(4))
    header = struct.pack(">2I5B", 5 if depth == 16 else 8, 4, depth, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def picture_files() -> Iterator[tuple[str, bytes]]:
    """Yield files of every format, colour and size that is read."""
    sizes = [(1, 1), (1, 7), (9, 2), (17, 31), (33, 33), (64, 48), (121, 479), (200, 60)]
    for height, width in sizes:
        image, place = natural(height, width), f"{height}x{width}"
        yield f"jpeg {place}", save_picture(image, "JPEG", quality=85)
        yield f"jpeg 4:4:4 {place}", save_picture(image, "JPEG", quality=95, subsampling=0)
        yield f"progressive {place}", save_picture(image, "JPEG", progressive=True, quality=60)
        yield f"grey jpeg {place}", save_picture(image.convert("L"), "JPEG")
        yield f"png {place}", save_picture(image, "PNG")
    image = natural(40, 50)
    clear = image.convert("RGBA")
    clear.putalpha(natural(40, 50, 1).convert("L"))
    exif = image.getexif()
    exif[0x0112] = 6  # lying on its side
    yield "orientation", save_picture(image, "JPEG", exif=exif)
    yield "4:2:2", save_picture(image, "JPEG", subsampling=1)
    yield "restart markers", save_picture(image, "JPEG", restart_marker_rows=1)
    yield "cmyk", save_picture(image.convert("CMYK"), "JPEG")
    yield "grey png", save_picture(image.convert("L"), "PNG")
    yield "one bit", save_picture(image.convert("1"), "PNG")
    yield "palette", save_picture(image.quantize(20), "PNG")
    yield "palette with shades of clear", save_picture(image.quantize(8), "PNG", transparency=bytes(range(8)))
    yield "palette with one clear", save_picture(image.quantize(8), "PNG", transparency=3)
    yield "rgba", save_picture(clear, "PNG")
    yield "grey and alpha", save_picture(clear.convert("LA"), "PNG")
    yield "one colour clear", save_picture(image, "PNG", transparency=(1, 2, 3))
    yield "one grey clear", save_picture(image.convert("L"), "PNG", transparency=7)
    for depth, kind, channels in ((16, 0, 1), (16, 2, 3), (16, 4, 2), (16, 6, 4), (2, 0, 1), (4, 0, 1)):
        yield f"png of {depth} bits, kind {kind}", deep_png(depth, kind, channels)


FILES = dict(picture_files())


def planned(height: int, width: int, channels: int, fit: str, antialias: bool, scale: str) -> Picture:
    return Picture("p", "p", "c", height, width, channels, fit, antialias, scale, None, 255.0)


def graph_pictures(output: Picture, files: list[bytes]) -> Any:
    given = tf.constant(files, tf.string)
    found = build_picture(output, Column(given, tf.not_equal(given, ""), None), "statistics")
    return tf.reshape(found, [-1, output.height, output.width, output.channels]).numpy()


def sidecar_of(output: Picture) -> Preprocessor:
    subtract, divide = SCALES[output.scale]
    keys = ("height", "width", "channels", "fit", "antialias")
    op = {key: getattr(output, key) for key in keys} | {"name": "p", "op": "picture", "column": "c"}
    scale = {"subtract": [subtract] * output.channels, "divide": [divide] * output.channels}
    return Preprocessor(
        {
            "schema_version": 1,
            "hash": {"function": "siphash-2-4", "key": ["1", "2"]},
            "joiner": "+",
            "columns": [{"name": "c", "type": "image"}],
            "outputs": [op | scale | {"pixels": None}],
        }
    )


def test_every_kind_of_file_decodes_to_the_same_bytes() -> None:
    assert len(FILES) >= 57
    for name, content in FILES.items():
        theirs = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        np.testing.assert_array_equal(decode_image(content), theirs, err_msg=name)


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("antialias", [True, False])
def test_pictures_agree(fit: str, antialias: bool) -> None:
    files = [*FILES.values(), b""]
    for (height, width), channels in itertools.product([(33, 33), (5, 200), (96, 96)], [1, 3]):
        output = planned(height, width, channels, fit, antialias, "none" if channels == 1 else "signed")
        found, expected = sidecar_of(output).transform({"c": files})["p"], graph_pictures(output, files)
        assert_same(found, expected, f"{height}x{width}x{channels}")
        assert not found[-1].any()


def test_damaged_files_are_an_error_in_both_and_at_ingest() -> None:
    """A file is taken by all three or by none; ingest may be stricter, never laxer."""
    draw, refused = random.Random(5), 0
    small = [content for content in FILES.values() if len(content) < 5000]
    for _ in range(600):
        content = bytearray(draw.choice(small))
        place = draw.randrange(len(content))
        match draw.randrange(4):
            case 0:
                del content[place:]
            case 1:
                content[place] ^= 1 << draw.randrange(8)
            case 2:
                content[place : place + 9] = bytes(min(9, len(content) - place))
            case _:
                content.insert(place, draw.randrange(256))
        damaged = bytes(content)
        try:
            expected = tf.io.decode_jpeg(damaged, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        except tf.errors.InvalidArgumentError:
            refused += 1
            assert why_corrupt(damaged)
            with pytest.raises(InvalidImage):
                decode_image(damaged)
        else:
            np.testing.assert_array_equal(decode_image(damaged), expected)
    assert 200 < refused < 590


@pytest.mark.parametrize(
    ("content", "told", "by_graph"),
    [
        (b"no picture", "not a JPEG or PNG file", "a picture must be a JPEG or PNG file"),
        (save_picture(natural(9, 9).convert("P"), "GIF"), "not a JPEG or PNG", "must be a JPEG or PNG file"),
        (FILES["jpeg 33x33"][:-200], "the file is cut short", "Invalid JPEG data"),
        (FILES["png 33x33"][:-200], "the file is cut short", "Invalid PNG data"),
    ],
)
def test_what_is_no_picture_is_told(content: bytes, told: str, by_graph: str) -> None:
    output = planned(4, 4, 3, "stretch", True, "unit")
    files = [FILES["palette"], content]
    with pytest.raises(InvalidRow, match=rf"a picture must be .*Received: {told}.*\(row 1, column 'c'\)"):
        sidecar_of(output).transform({"c": files})
    with pytest.raises(tf.errors.InvalidArgumentError, match=by_graph):
        graph_pictures(output, files)


def test_forms_of_a_picture_are_the_same() -> None:
    sidecar, content = sidecar_of(planned(4, 4, 3, "stretch", True, "unit")), FILES["rgba"]
    given: list[Any] = [
        content,
        bytearray(content),
        memoryview(content),
        {"b64": base64.b64encode(content).decode()},
    ]
    found = sidecar.transform([{"c": value} for value in given])["p"]
    for row in found[1:]:
        np.testing.assert_array_equal(row, found[0])
    assert Image.open(io.BytesIO(content)).mode == "RGBA"
    for missing in (None, "", b"", math.nan):
        assert not sidecar.transform([{"c": missing}])["p"].any()


def test_a_large_photo_agrees() -> None:
    content = save_picture(natural(1500, 2000), "JPEG", quality=90)
    for output in (planned(96, 96, 3, "crop", True, "unit"), planned(224, 224, 3, "pad", False, "none")):
        assert_same(
            sidecar_of(output).transform({"c": [content]})["p"], graph_pictures(output, [content]), ""
        )


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_of_more_pixels_than_ingest_takes_is_decoded_nowhere(kind: str) -> None:
    bomb, told = io.BytesIO(), re.escape("8192 x 8193 pixels, more than the 67,108,864 that are decoded")
    Image.new("L", (8192, 8193)).save(bomb, kind, **({"quality": 1} if kind == "JPEG" else {}))
    content = bomb.getvalue()
    assert why_corrupt(content) == "too many pixels"
    with pytest.raises(InvalidImage, match=told):
        decode_image(content)
    with pytest.raises(tf.errors.InvalidArgumentError, match="a picture must have at most 67108864 pixels"):
        graph_pictures(planned(4, 4, 3, "stretch", True, "unit"), [content])


def test_the_most_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    output, files = planned(4, 4, 3, "stretch", True, "unit"), [FILES["png 33x33"], FILES["jpeg 33x33"]]
    for module in ("headrace.serving.images", "headrace.components.features.pictures"):
        monkeypatch.setattr(f"{module}.MAX_PIXELS", 33 * 33)
    assert_same(sidecar_of(output).transform({"c": files})["p"], graph_pictures(output, files), "all")
    for module in ("headrace.serving.images", "headrace.components.features.pictures"):
        monkeypatch.setattr(f"{module}.MAX_PIXELS", 33 * 33 - 1)
    for content in files:
        with pytest.raises(InvalidImage, match="33 x 33 pixels, more than the 1,088"):
            decode_image(content)
        with pytest.raises(tf.errors.InvalidArgumentError, match="at most 1088 pixels"):
            graph_pictures(output, [content])


@pytest.mark.parametrize("sides", [(1, 2), (2**31 - 1, 2**31 - 1), (2**32 - 1, 2**30), (65_536, 65_536)])
def test_sides_that_a_png_tells_are_counted_without_overflow(sides: tuple[int, int]) -> None:
    head = FILES["png 33x33"][:16] + struct.pack(">II", *sides)
    assert int(_count_pixels(tf.constant(head), tf.constant(False))) == math.prod(sides)


def test_a_picture_so_large_that_pillow_warns_is_refused_alike() -> None:
    content = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(content, "PNG")
    with pytest.raises(InvalidImage, match="more than the 67,108,864 pixels that are decoded"):
        decode_image(content.getvalue())
