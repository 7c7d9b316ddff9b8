"""The report of each task and data kind: classes, labels, residuals, mistakes, the inside of training."""

import copy
import re
from typing import Any

import numpy as np
import pytest

from headrace.pipeline.report import build
from headrace.pipeline.report.charts.band import residual_band
from headrace.pipeline.report.charts.density import density
from headrace.pipeline.report.charts.series import small_series
from headrace.pipeline.report.facts import collect
from headrace.pipeline.report.sections.classes import classes
from headrace.pipeline.report.sections.data import data
from headrace.pipeline.report.sections.mistakes import mistakes
from headrace.pipeline.report.sections.monitoring import monitoring
from headrace.pipeline.report.sections.residuals import residuals
from headrace.pipeline.report.sections.slices import slices
from headrace.pipeline.report.statistics import compact_split
from headrace.pipeline.report.svg import power_labels

from . import report_tasks
from .report_fixture import NOISE, run
from .test_report import HOSTILE, Page


def made(task: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return run(task, "pushed", rows=800)


def section(text: str, key: str) -> str:
    """Return the words of one section."""
    found = re.search(rf'<section id="{key}".*?</section>', text, re.S)
    assert found is not None, key
    return Page(found[0]).text


def test_labels_have_a_table_and_a_matrix_each() -> None:
    summary, evidence = made("multilabel")
    found = classes(collect(summary, evidence))
    assert found is not None
    lead = next(v for v in evidence["evaluation"]["variants"] if v["name"] == "int8_weights")
    lowest = min(lead["per_class"], key=lambda held: held["f1"])
    assert found["matrices"][0]["label"] == lowest["label"]
    assert len(found["matrices"]) == 6
    words = section(build(summary, evidence), "classes")
    assert "Threshold" in words
    assert f"{lowest['f1']:.4f}" in words
    assert "Confusion matrices" not in Page(build(summary, evidence)).text


def test_many_labels_are_drawn_up_to_a_bound() -> None:
    summary, evidence = made("multilabel")
    for held in (*evidence["evaluation"]["variants"], *summary["variants"]):
        held["label_matrices"] = [
            {"label": f"l{i}", "matrix": [[5, 1], [2, 3]], "axis": "rows are true labels"} for i in range(40)
        ]
    found = classes(collect(summary, evidence))
    assert found is not None
    assert (len(found["matrices"]), found["more"]) == (24, 16)


def test_classes_of_every_variant_can_be_chosen() -> None:
    summary, evidence = made("multiclass")
    text = build(summary, evidence)
    words = section(text, "classes")
    for name in ("float32", "tflite_int8"):
        assert name in words
    table = re.search(r'<table id="classes-table".*?</table>', text, re.S)
    assert table is not None
    assert table[0].count("<tr data-variant=") == 10 * len(evidence["evaluation"]["variants"])
    assert 'data-switch="by-predicted"' in text
    assert classes(collect(*made("binary"))) is None


@pytest.mark.parametrize(("names", "drawn"), [(10, 6), (13, 3)])
def test_of_large_matrices_only_the_telling_variants_are_drawn(names: int, drawn: int) -> None:
    summary, evidence = made("multiclass")
    carriers = np.array(["AA", "HA"])[np.arange(400) % 2]
    evidence["evaluation"] = report_tasks.multiclass(np.random.default_rng(1), carriers, NOISE, names)
    for held, judged in zip(summary["variants"], evidence["evaluation"]["variants"], strict=True):
        held["confusion_matrix"] = judged["confusion_matrix"]
    text = build(summary, evidence)
    assert text.count('class="chart heatmap"') == drawn
    assert ("Drawn are the variants that matter most" in text) is (drawn == 3)


def test_thirty_classes_stay_within_the_size_of_a_page() -> None:
    summary, evidence = made("multiclass")
    carriers = np.array(["AA", "HA"])[np.arange(2000) % 2]
    evidence["evaluation"] = report_tasks.multiclass(np.random.default_rng(1), carriers, NOISE, 30)
    for held, judged in zip(summary["variants"], evidence["evaluation"]["variants"], strict=True):
        held |= {key: judged[key] for key in ("confusion_matrix", "per_class", "metrics")}
    assert len(build(summary, evidence).encode()) < 2_000_000


def test_residuals_are_drawn_of_the_telling_variants() -> None:
    summary, evidence = made("regression")
    found = residuals(collect(summary, evidence))
    assert found is not None
    assert [item["name"] for item in found["variants"]] == [
        "float32", "int8_weights", "tflite_int8", "baseline",
    ]  # fmt: skip
    assert found["left_out"] == ["tflite_float32", "tflite_float16", "tflite_dynamic_int8"]
    for item in found["variants"]:
        assert item["density"]
        assert item["histogram"]
        assert item["band"]
    held = evidence["evaluation"]["variants"][0]["residuals"]
    del held["density"], held["by_predicted"]  # as runs of an earlier version wrote them
    first = residuals(collect({}, evidence))["variants"][0]  # type: ignore[index]
    assert "<circle" in first["density"]
    assert first["band"] is None


def test_density_tells_the_rows_of_a_cell() -> None:
    drawing = density([0.0, 1.0, 2.0], [[4, 0], [1, 9]], "s0", "d")
    assert drawing.count('class="bar"') == 3
    assert "9 rows: true near 1.50, predicted near 1.50" in drawing
    assert "1 rows: true near 1.50, predicted near 0.50" in drawing


def test_a_band_spans_its_percentiles() -> None:
    drawing = residual_band([1.0, 2.0], [-3.0, -1.0], [0.0, 0.5], [4.0, 2.0], [10, 12], "s0", "b")
    assert "predicted near 2.00: median 0.500, 80 % of 12 rows from −1.00 to 2.00" in drawing


def test_the_worst_slices_come_first() -> None:
    for task, first in (("regression", max), ("multilabel", min)):
        summary, evidence = made(task)
        chart = slices(collect(summary, evidence))["charts"][0]["svg"]  # type: ignore[index]
        name = "rmse" if task == "regression" else "macro_f1"
        lead = next(v for v in evidence["evaluation"]["variants"] if v["name"] == "int8_weights")
        large = [part for part in lead["slices"] if part["rows"] >= 40]
        worst = first(large, key=lambda part: part["metrics"][name])
        shown = re.search(r'class="name">([^<]+)<', chart)
        assert shown is not None
        assert shown[1] == worst["keys"]["carrier"], task


@pytest.mark.parametrize("kind", ["image", "series", "text", "tabular"])
@pytest.mark.parametrize("task", ["binary", "multilabel", "regression"])
def test_mistakes_of_every_kind_are_shown(task: str, kind: str) -> None:
    summary, evidence = made(task)
    evidence["mistakes"] = report_tasks.mistakes(task, kind)
    text = build(summary, evidence)
    words = section(text, "mistakes")
    assert "18 of 211" in words
    pictures = [a for tag, a in Page(text).tags if tag == "img"]
    assert len(pictures) == (17 if kind == "image" else 0)
    assert all((a["src"] or "").startswith("data:image/png;base64,") and a["alt"] for a in pictures)
    assert text.count("series-small") - text.count(".series-small") == (18 if kind == "series" else 0)
    if task == "multilabel":
        assert "crime, drama" in words
        assert "none" in words
    if kind == "text":
        assert evidence["mistakes"]["rows"][0]["values"]["text"] in words


def test_pictures_come_from_nowhere_else() -> None:
    summary, evidence = made("binary")
    evidence["mistakes"] = report_tasks.mistakes("binary", "image")
    for row in evidence["mistakes"]["rows"]:
        row["values"] |= {"photo": "https://example.com/x.png", "place": HOSTILE}
        row["label"] = row["predicted"] = HOSTILE
    text = build(summary, evidence)
    assert "<img" not in text
    assert "example.com" not in text
    assert "<script>alert" not in text


def test_series_that_no_line_shows_are_named() -> None:
    held = report_tasks.mistakes("multiclass", "series")
    first = next(name for name, kind in held["columns"].items() if kind == "series")
    names = [f"c{number:02}" for number in range(14)]
    held["columns"] = dict.fromkeys(names[:12], "series")
    for row in held["rows"]:
        row["values"] = dict.fromkeys(names[:12], row["values"][first])
    columns = [{"name": name, "type": "floats"} for name in names]
    found = mistakes(collect({}, {"mistakes": held, "ingest": {"columns": columns}}))
    assert found is not None
    assert [name for name, _, _ in found["legend"]] == names[:8]
    assert found["left_out"] == ", ".join(names[8:])


def test_no_mistakes_no_section() -> None:
    assert mistakes(collect({}, {"mistakes": {"total": 0, "columns": {}, "rows": []}})) is None
    assert mistakes(collect({}, {})) is None


def test_small_series_leave_out_what_is_missing() -> None:
    drawing = small_series({"a": [1.0, None, 3.0], "b": [5.0], "c": [None]}, dict.fromkeys("abc", "s0"), "s")
    assert "a: 3 steps, 1 to 3" in drawing
    assert "c: 1 steps, none with a number" in drawing
    assert drawing.count("<polyline") == 1
    assert drawing.count("<circle") == 1


def test_monitoring_warns_of_dead_units_and_of_weights_that_are_not_finite() -> None:
    evidence: dict[str, Any] = {"monitoring": report_tasks.monitoring()}
    found = monitoring(collect({}, evidence))
    assert found is not None
    assert len(found["warnings"]) == 1
    assert "66.0 % of the units of dense_2" in found["warnings"][0]
    assert [name for name, _ in found["gradients"]["legend"]] == [
        "all layers", "embed_carrier", "dense_1", "dense_2", "head",
    ]  # fmt: skip
    broken = copy.deepcopy(evidence)
    last = broken["monitoring"]["epochs"][-1]
    last["layers"][1] |= dict.fromkeys(("mean", "std", "min", "max", "histogram", "gradient_norm"))
    last["gradient_norm"] = None
    text = build({}, broken)
    assert "Weights of dense_1 are not finite" in section(text, "monitoring")
    grown = copy.deepcopy(evidence)
    grown["monitoring"]["epochs"][-1]["gradient_norm"] = 500.0
    assert "more than a hundredfold" in section(build({}, grown), "monitoring")
    assert monitoring(collect({}, {"monitoring": {"epochs": []}})) is None


def test_monitoring_without_relu_layers_has_no_dead_units() -> None:
    evidence = {"monitoring": report_tasks.monitoring(epochs=1)}
    evidence["monitoring"]["epochs"][0]["dead"] = {}
    found = monitoring(collect({}, evidence))
    assert found is not None
    assert found["dead"] is None
    assert "Dead units" in section(build({}, evidence), "monitoring")  # the column stays


def test_the_rate_finder_and_the_hint_are_in_the_training_section() -> None:
    text = build(*made("binary"))
    words = section(text, "training")
    assert "Learning rate finder" in words
    assert "suggested: 0.0017" in words
    assert "Overfitting after epoch 4" in words
    assert power_labels([1e-3, 0.1, 0.05]) == ["10⁻³", "10⁻¹", "0.050"]
    summary, evidence = made("binary")
    evidence["lr_finder"] = {"learning_rates": [1e-6], "losses": [0.7], "suggested": None}
    assert "Learning rate finder" not in section(build(summary, evidence), "training")


def test_images_left_out_are_listed_with_their_reasons() -> None:
    summary, evidence = made("multiclass")
    summary["config"]["data"]["max_corrupt_share"] = 0.01
    evidence["ingest"] |= {
        "rows": 980,
        "corrupt": [{"path": f"cats/{n}.jpg", "reason": HOSTILE} for n in range(20)],
        "corrupt_rows": 20,
    }
    words = section(build(summary, evidence), "data")
    assert "20 cannot be decoded, 2.00 % of all rows; at most 1.00 % may be." in words
    assert "cats/19.jpg" in words
    evidence["ingest"] |= {"corrupt": [], "corrupt_rows": 0}
    assert "Images left out" not in section(build(summary, evidence), "data")


def list_and_picture_statistics() -> dict[str, Any]:
    from tensorflow_metadata.proto.v0 import statistics_pb2

    dataset = statistics_pb2.DatasetFeatureStatistics(num_examples=50)
    steps = dataset.features.add(name="steps")
    common = steps.num_stats.common_stats
    common.num_non_missing, common.num_missing = 48, 2
    common.min_num_values, common.max_num_values, common.avg_num_values = 7, 29, 15.8
    steps.num_stats.min, steps.num_stats.median, steps.num_stats.max = -1.5, 0.25, 2.0
    photo = dataset.features.add(name="photo")
    photo.bytes_stats.common_stats.num_non_missing = 50
    photo.bytes_stats.avg_num_bytes = 40_200
    photo.bytes_stats.min_num_bytes, photo.bytes_stats.max_num_bytes_int = 2_000, 120_000
    plot = dataset.features.add(name="plot")
    plot.string_stats.common_stats.num_non_missing = 2000
    plot.string_stats.common_stats.tot_num_values = 2000
    plot.string_stats.unique, plot.string_stats.avg_length = 2000, 512
    plot.string_stats.rank_histogram.buckets.add(low_rank=0, high_rank=0, label="a story", sample_count=1)
    return compact_split(dataset)


def test_lists_pictures_and_free_text_are_told_by_their_sizes() -> None:
    held = list_and_picture_statistics()
    assert held["features"]["steps"]["lengths"] == {"min": 7, "mean": pytest.approx(15.8), "max": 29}
    evidence = {"statistics": {"train": held, "eval": held}}
    found = data(collect({}, evidence))
    assert found is not None
    words = section(build({}, evidence), "data")
    assert "−1.5 · 0.25 · 2 7 to 29 numbers a row, 15.8 on average" in words
    assert "40.2 kB a file 2.00 kB to 120 kB" in words
    assert "2,000 distinct 512 bytes on average" in words
    assert "a story" not in words
