"""The report: complete in itself, right in its numbers, safe with hostile text, whole with parts missing."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from headrace.pipeline.report import build
from headrace.pipeline.report.charts.dag import layers, reduced
from headrace.pipeline.report.charts.heatmap import heatmap
from headrace.pipeline.report.charts.timeline import starts
from headrace.pipeline.report.facts import collect
from headrace.pipeline.report.numbers import (
    count,
    duration,
    latency,
    metric,
    metric_title,
    percent,
    short,
    signed,
    significant,
    size,
)
from headrace.pipeline.report.sections.curves import thresholds
from headrace.pipeline.report.statistics import compact
from headrace.pipeline.report.svg import Scale, element, tick_labels, ticks

from .report_fixture import graph, run, write_statistics

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "summary.schema.json"
HOSTILE = "</title></script><script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
VERDICTS = {"pushed": "Pushed", "rejected": "Rejected", "data_rejected": "Data rejected", "failed": "Failed"}
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Collect tags, attributes, ids and text, and insist that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def pushed() -> tuple[dict[str, Any], dict[str, Any]]:
    return run("binary", "pushed", rows=1500)


@pytest.fixture(scope="module")
def rejected() -> tuple[dict[str, Any], dict[str, Any]]:
    return run("binary", "rejected", rows=1500)


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_every_task_and_verdict_gives_a_well_formed_page(task: str, verdict: str) -> None:
    summary, evidence = run(task, verdict, rows=600)
    text = build(summary, evidence)
    page = Page(text)
    assert f"{VERDICTS[verdict]} " in page.text
    assert len(page.ids()) == len(set(page.ids()))
    assert len(text.encode()) < 1_500_000
    for bad in ("undefined", "Undefined", "NaN", ">nan", "None</"):
        assert bad not in page.text
    linked = {a["href"][1:] for tag, a in page.tags if tag == "a" and (a.get("href") or "").startswith("#")}  # type: ignore[index]
    assert linked <= set(page.ids())


def test_nothing_is_loaded_from_anywhere(pushed: tuple[Any, Any]) -> None:
    text = build(*pushed)
    page = Page(text)
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "href", "action", "data", "poster", "xlink:href"):
            target = attributes.get(name) or ""
            assert target.startswith(("#", "data:,", "data:image/")) or not target, (tag, target)
    assert not re.search(r"@import|url\(|https?://|fetch\(|XMLHttpRequest|WebSocket", text)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_text_from_data_stays_text(rejected: tuple[Any, Any]) -> None:
    summary, evidence = copy.deepcopy(rejected)
    harmless = sum(tag == "script" for tag, _ in Page(build(summary, evidence)).tags)
    summary["config"]["name"] = summary["run_id"] = HOSTILE
    summary["gates"][-3]["slice"] = {"carrier": HOSTILE}
    summary["gates"][-3]["reason"] = HOSTILE
    for variant in evidence["evaluation"]["variants"]:
        variant["slices"][1]["keys"] = {HOSTILE: HOSTILE}
        variant["confusion_matrix"]["labels"] = [HOSTILE, "1"]
    for variant in summary["variants"]:
        variant["confusion_matrix"]["labels"] = [HOSTILE, "1"]
        variant["slices"][1]["keys"] = {HOSTILE: HOSTILE}
    evidence["anomalies"] = [
        dict.fromkeys(("split", "feature", "rule", "severity", "expected", "found"), HOSTILE)
    ]
    evidence["statistics"]["train"]["features"]["carrier"]["top"][0][0] = HOSTILE
    evidence["command"] = evidence["config_yaml"] = HOSTILE
    evidence["trials"][0]["values"]["model.hidden"] = HOSTILE
    evidence["importance"] = [{"feature": HOSTILE, "drop": 1.0}]
    page = Page(build(summary, evidence))
    assert sum(tag == "script" for tag, _ in page.tags) == harmless
    assert not any(tag == "img" for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "alert('x')" in page.text


@pytest.mark.parametrize(
    "missing",
    [
        "ingest",
        "anomalies",
        "evaluation",
        "infra",
        "history",
        "trials",
        "best",
        "statistics",
        "graph",
        "lineage",
        "command",
        "versions",
        "config_yaml",
    ],
)
def test_any_missing_evidence_leaves_the_rest(pushed: tuple[Any, Any], missing: str) -> None:
    summary, evidence = pushed
    page = Page(build(summary, {key: value for key, value in evidence.items() if key != missing}))
    assert "Pushed" in page.text
    assert "int8_weights" in page.text


@pytest.mark.parametrize(
    "missing", ["schema_version", "run_id", "config", "verdict", "data", "nodes", "variants", "gates"]
)
def test_any_missing_summary_key_leaves_the_rest(pushed: tuple[Any, Any], missing: str) -> None:
    summary, evidence = pushed
    page = Page(build({key: value for key, value in summary.items() if key != missing}, evidence))
    assert "float32" in page.text


def test_nothing_known_still_renders() -> None:
    page = Page(build({}, {}))
    assert "Not finished" in page.text
    page = Page(
        build({"verdict": "failed", "data": None, "content_id": None, "variants": [], "gates": []}, {})
    )
    assert "Failed" in page.text


def test_failing_gates_come_first_in_banner_and_table(rejected: tuple[Any, Any]) -> None:
    page = Page(build(*rejected))
    banner, rest = page.text.split("Gates All", 1)
    assert "Nothing was pushed." in banner
    assert "tflite_int8: Accuracy drop on carrier=9E" in banner
    assert "0.0341, bound ≤ 0.0200" in banner
    states = [a.get("data-state") for tag, a in page.tags if tag == "tr" and "data-state" in a]
    assert states[:3] == ["FAIL", "FAIL", "SKIPPED"]
    assert states[-1] == "PASS"
    assert len(states) == len(rejected[0]["gates"])
    assert "Fail 2" in rest


def test_data_rejection_names_the_anomaly() -> None:
    text = Page(build(*run("binary", "data_rejected", rows=600))).text
    assert text.index("origin (eval)") < text.index("expected EWR, JFK, LGA, found XXX, 132 rows")


def test_failure_tells_the_error() -> None:
    summary, evidence = run("binary", "failed", rows=600)
    summary["error"] = {"message": "`output.runs` must have room", "hint": "free some space", "exit_code": 1}
    assert "`output.runs` must have room. free some space" in Page(build(summary, evidence)).text


def test_data_that_ingest_refused_is_told_with_the_nodes_own_reason() -> None:
    summary, evidence = run("binary", "data_rejected", rows=600)
    reason = "column 'n' is read as a number. Received: '12k?' (row 9, line 10 of p.csv)"
    summary |= {"gates": [], "variants": [], "error": {"message": reason, "hint": "mend it", "exit_code": 4}}
    del evidence["anomalies"]
    for index, node in enumerate(summary["nodes"]):
        node["state"] = "skipped" if index else "failed"
        node |= {"wall_s": 0.0, "cpu_s": 0.0, "peak_rss_bytes": 0} if index else {"finding": ""}
    page = Page(build(summary, evidence))
    banner, rest = page.text.split("Peak memory", 1)
    assert f"{reason}. mend it. Nothing was trained, nothing was pushed." in banner
    assert "schema." not in banner
    assert reason in rest
    assert page.text.count("– not run") == len(summary["nodes"]) - 1
    assert "0 B" not in page.text
    assert "0.00 s" not in page.text


def test_the_gates_of_a_push_add_up(pushed: tuple[Any, Any]) -> None:
    summary, evidence = copy.deepcopy(pushed)
    gate = summary["gates"][0]
    summary["gates"] = [
        {**gate, "variant": variant, "state": state}
        for state, variant, times in (
            ("PASS", "float32", 31),
            ("WARN", "float32", 2),
            ("NO_BASELINE", "float32", 3),
            ("FAIL", "tflite_int8", 1),
        )
        for _ in range(times)
    ]
    assert (
        "31 of 37 gates passed; 1 failed (tflite_int8: not pushed); 2 warned; "
        "3 had no baseline to compare with yet." in Page(build(summary, evidence)).text
    )


def test_a_warning_stands_in_the_banner_of_a_pushed_run(pushed: tuple[Any, Any]) -> None:
    summary, evidence = copy.deepcopy(pushed)
    warned = {"kind": "data", "variant": None, "slice": {"split": "test"}, "metric": "skew", "bound": None,
              "value": 0.31, "state": "WARN", "reason": "hour differs most."}  # fmt: skip
    summary["gates"].append(warned)
    page = Page(build(summary, evidence))
    banner = page.text.split("Gates All", 1)[0]
    assert "; 1 warned" in banner
    assert "Skew on split=test 0.3100 hour differs most." in banner
    assert "Warning 1" in page.text
    states = [a["data-state"] for tag, a in page.tags if tag == "tr" and "data-state" in a]
    assert states.index("WARN") < min(states.index("NO_BASELINE"), states.index("PASS"))


def test_sums_of_weights_are_not_called_rows(pushed: tuple[Any, Any]) -> None:
    summary, evidence = copy.deepcopy(pushed)
    plain = build(summary, evidence)
    evidence["ingest"]["weight"] = "w"
    weighted = build(summary, evidence)
    lead = next(v for v in summary["variants"] if v["name"] == "int8_weights")
    (tn, fp), (fn, tp) = lead["confusion_matrix"]["matrix"]
    assert f"true 1, predicted 0: {fn:,} rows" in plain
    assert f"true 1, predicted 0: {fn:,} weight," in weighted
    assert f"{tn + tp:,} of {tn + fp + fn + tp:,} weight right" in Page(weighted).text
    for words in (r"observed [\d.]+ %, [\d,.]+ rows", r"[\d,.]+ rows predicted near", ">Rows</text>"):
        assert re.search(words, plain)
        assert not re.search(words, weighted)


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_weights_are_named_in_every_task(task: str) -> None:
    summary, evidence = run(task)
    evidence["ingest"]["weight"] = "w"
    text = build(summary, evidence)
    assert re.search(r"[\d,.]+ weight", text)
    for words in ("Test rows that have it", r"true near", r"[\d.]+ rows, [\d.<]+ % of this true label"):
        for found in re.findall(rf"[^>]*{words}[^<]*", text):
            assert " rows: true near" not in found
            assert "rows, " not in found or "of this true" not in found


def test_the_columns_table_speaks_of_one_split_at_a_time(pushed: tuple[Any, Any]) -> None:
    summary, evidence = copy.deepcopy(pushed)
    statistics = evidence["statistics"]
    for split, share in (("train", 0.125), ("eval", 0.5), ("test", 0.125)):
        statistics[split]["features"]["hour"]["missing"] = share
    page = Page(build(summary, evidence))
    assert "Missing in train" in page.text
    assert "Values in train" in page.text
    assert "12.50 % eval 50.00 %" in page.text
    del statistics["train"]["features"]["hour"]
    Page(build(summary, evidence))


def test_what_was_not_checked_is_not_said_to_be_in_order(pushed: tuple[Any, Any]) -> None:
    summary, evidence = copy.deepcopy(pushed)
    assert "None found in any split." in Page(build(summary, evidence)).text
    del evidence["anomalies"]
    page = build(summary, evidence)
    assert "None found" not in page
    assert "<h3>Anomalies</h3>" not in page


def test_a_compressed_variant_that_came_out_larger_says_so(pushed: tuple[Any, Any]) -> None:
    summary, evidence = copy.deepcopy(pushed)
    assert "larger than" not in Page(build(summary, evidence)).text
    sizes = {v["name"]: v for v in summary["variants"]}
    sizes["int8_weights"]["size_bytes"] = sizes["float32"]["size_bytes"] + 1
    text = Page(build(summary, evidence)).text
    assert text.count("larger than float32") == 1


def test_figures_are_those_of_the_evidence(pushed: tuple[Any, Any]) -> None:
    summary, _ = pushed
    text = Page(build(*pushed)).text
    chosen = next(v for v in summary["variants"] if v["name"] == "int8_weights")
    assert f"{chosen['metrics']['auc']:.4f}" in text
    assert "336,776" in text
    assert "0.26× of float32 weights" in text  # 1,942,016 of 7,471,104 bytes
    (tn, fp), (fn, tp) = chosen["confusion_matrix"]["matrix"]
    assert f"true 1, predicted 0: {fn:,} rows, {100 * fn / (fn + tp):.1f} % of this true label" in text
    assert f"{tn + tp:,} of {tn + fp + fn + tp:,} right" in text


def test_a_rejected_run_shows_what_would_have_been_pushed(rejected: tuple[Any, Any]) -> None:
    summary, evidence = copy.deepcopy(rejected)
    assert [v.name for v in collect(summary, evidence).candidates] == ["float32"]
    summary["config"]["push"] = {"serving": "int8_weights", "lite": "tflite_int8"}
    assert [v.name for v in collect(summary, evidence).candidates] == ["int8_weights", "tflite_int8"]


def test_a_skipped_variant_says_why(pushed: tuple[Any, Any]) -> None:
    summary, evidence = copy.deepcopy(pushed)
    summary["variants"].append(
        {
            "name": "tflite_extra",
            "runtime": "litert",
            "state": "skipped",
            "reason": "no sidecar",
            "metrics": {},
        }
    )
    assert "tflite_extra was skipped: no sidecar" in Page(build(summary, evidence)).text


@pytest.mark.parametrize(("classes", "drawn"), [(2, True), (10, True), (30, True), (31, False)])
def test_matrices_are_drawn_up_to_thirty_classes(classes: int, drawn: bool) -> None:
    rng = np.random.default_rng(3)
    names = [f"class {i}" for i in range(classes)]
    matrix = {
        "labels": names,
        "matrix": rng.integers(0, 50, (classes, classes)).tolist(),
        "axis": "rows are true labels",
    }
    variant = {"name": "float32", "metrics": {"accuracy": 0.5}, "confusion_matrix": matrix}
    text = build({"variants": [variant]}, {"evaluation": {"task": "multiclass"}})
    assert ('class="chart heatmap"' in text) is drawn
    assert ("too large to draw" in text) is not drawn
    assert "rows are true labels" in text.lower()
    assert ("Most frequent confusions" in text) is (classes > 2)


def test_heatmap_shades_by_the_share_of_the_row() -> None:
    drawing = heatmap(["a", "b"], [[30, 10], [0, 0]], "m")
    opacities = [float(value) for value in re.findall(r"--r:([\d.]+)", drawing)]
    assert opacities == pytest.approx([0.04 + 0.96 * 0.75, 0.04 + 0.96 * 0.25, 0.04, 0.04])
    opacities = [float(value) for value in re.findall(r"--p:([\d.]+)", drawing)]
    assert opacities == pytest.approx([1.0, 1.0, 0.04, 0.04])
    assert "true a, predicted b: 10 rows, 25.0 % of this true label" in drawing


def test_every_drawing_has_a_name_and_rows_tell_their_state_in_words(rejected: tuple[Any, Any]) -> None:
    page = Page(build(*rejected))
    drawings = [a for tag, a in page.tags if tag == "svg" and a.get("role") == "img"]
    assert len(drawings) > 20
    assert all(a.get("aria-label") for a in drawings)
    for words in ("✕ Fail", "– Skipped", "? No threshold", "○ No baseline", "✓ Pass"):
        assert words in page.text


def test_one_seed_one_page() -> None:
    assert build(*run(rows=500)) == build(*run(rows=500))


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_fixture_keeps_the_published_schema(verdict: str) -> None:
    summary, _ = run("binary", verdict, rows=500)
    Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(
        json.loads(json.dumps(summary))
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict",), "maybe"),
        (("schema_version",), 2),
        (("gates", 0, "state"), "OK"),
        (("variants", 0, "metrics"), {"Test AUC": 1.0}),
        (("variants", 0, "confusion_matrix", "axis"), "columns are true labels"),
        (("nodes", 0, "wall_s"), -1),
        (("data", "sha256"), "abc"),
    ],
)
def test_the_published_schema_refuses(pushed: tuple[Any, Any], path: tuple[Any, ...], value: Any) -> None:
    summary = copy.deepcopy(pushed[0])
    holder: Any = summary
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    errors = list(Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).iter_errors(summary))
    assert errors
    assert all(list(error.absolute_path)[: len(path)] == list(path) for error in errors)


def test_compact_tells_what_numpy_counts(tmp_path: Path) -> None:
    numbers = np.array([1.0, 2.0, 2.0, np.nan, 9.0])
    words = np.array(["a", "b", "a", "", "a"])
    write_statistics(tmp_path, {split: {"n": numbers, "w": words} for split in ("test", "train")})
    found = compact(tmp_path)
    assert list(found) == ["train", "test"]
    assert found["train"]["rows"] == 5
    n, w = found["train"]["features"]["n"], found["train"]["features"]["w"]
    assert (n["type"], n["present"], n["missing"], n["min"], n["median"], n["max"]) == (
        "number",
        4,
        pytest.approx(0.2),
        1.0,
        2.0,
        9.0,
    )
    assert n["mean"] == pytest.approx(3.5)
    assert sum(held for _, held in n["bins"]) == 4
    assert (w["type"], w["distinct"], w["top"], w["other"]) == ("text", 2, [["a", 3.0], ["b", 1.0]], 0)
    assert w["bins"] == [["a", 3], ["b", 1]]


def test_compact_reads_what_tfdv_wrote_with_many_bins_and_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = rng.choice([f"v{i}" for i in range(40)], 900)
    write_statistics(tmp_path, {"train": {"w": words}})
    held = compact(tmp_path)["train"]["features"]["w"]
    assert len(held["top"]) == 12
    assert held["other"] + sum(n for _, n in held["top"]) == 900
    assert compact(tmp_path / "nowhere") == {}


def test_bins_are_named_as_they_are_counted(tmp_path: Path) -> None:
    hours, parts = np.array([0, 0, 1, 2, 3]), np.array([0.0, 5.0, 5.0, 5.0, 20.0])
    other = {"h": np.array([-1, 99, 1]), "p": np.array([5.0, 5.0, -7.0])}
    write_statistics(tmp_path, {"train": {"h": hours, "p": parts}, "test": other})
    found = compact(tmp_path)
    assert found["train"]["features"]["h"]["bins"] == [["below 1", 2], ["1", 1], ["2", 1], ["3 or more", 1]]
    assert [n for _, n in found["test"]["features"]["h"]["bins"]] == [1, 1, 0, 1]
    train, test = (dict(found[split]["features"]["p"]["bins"]) for split in ("train", "test"))
    assert train.keys() == test.keys()
    assert sum(train.values()) == 5
    assert test["below 1"] == 1


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({"value": 0.31, "chance": 0.02}, "0.31 over the limit"),
        ({"value": 0.31, "chance": 0.4}, "0.31 within chance"),
        ({"value": 0.2, "chance": 0.02}, "0.20 "),
    ],
)
def test_the_report_shows_the_distances_that_were_judged(
    pushed: tuple[Any, Any], entry: dict[str, float], shown: str
) -> None:
    summary, evidence = copy.deepcopy(pushed)
    evidence["skew"] = [{"split": "test", "feature": "hour", "measure": "jensen_shannon", **entry}]
    text = Page(build(summary, evidence)).text
    assert shown in text
    assert text.count("over the limit") == ("over" in shown)
    assert text.count("within chance") == ("within" in shown)


def test_the_drawn_edges_reach_what_the_graph_reaches() -> None:
    items = graph()
    edges = reduced(items)
    depth = layers(items)

    def reach(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
        while more := {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs:
            pairs = pairs | more
        return pairs

    whole = {(parent, item["id"]) for item in items for parent in item["inputs"]}
    assert reach(set(edges)) == reach(whole)
    for edge in edges:
        assert edge not in reach(set(edges) - {edge})
    assert all(depth[a] < depth[b] for a, b in whole)


def test_nodes_begin_when_what_they_need_has_ended() -> None:
    items = [
        {"id": "a", "inputs": []},
        {"id": "b", "inputs": ["a"]},
        {"id": "c", "inputs": ["a"]},
        {"id": "d", "inputs": ["b", "c"]},
    ]
    ran = [
        {"id": "a", "wall_s": 1.0},
        {"id": "b", "wall_s": 5.0},
        {"id": "c", "wall_s": 2.0},
        {"id": "d", "wall_s": 1.0},
    ]
    assert starts(ran, items) == {"a": 0.0, "b": 1.0, "c": 1.0, "d": 6.0}
    ran[2]["start_s"] = 6.5
    assert starts(ran, items)["d"] == 8.5


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (count(336776), "336,776"),
        (count(None), "–"),
        (count(2.5), "2.5"),
        (count(True), "–"),
        (metric(0.81234), "0.8123"),
        (metric(1234.567), "1,235"),
        (metric(3e-6), "3.00 × 10⁻⁶"),
        (metric(-0.2), "−0.2000"),
        (signed(0.0123), "+0.0123"),
        (signed(-0.0123), "−0.0123"),
        (signed(1e-6), "0.0000"),
        (signed(None), "–"),
        (significant(0), "0"),
        (significant(0.00051, 2), "0.00051"),
        (significant(float("nan")), "–"),
        (short(5.0), "5"),
        (short(1200.0), "1,200"),
        (short(0.5), "0.5"),
        (percent(0.259), "25.9 %"),
        (percent(0.0001), "<0.1 %"),
        (percent(0), "0.0 %"),
        (size(7_471_104), "7.47 MB"),
        (size(812), "812 B"),
        (size(31_204_118), "31.2 MB"),
        (size(2_500_000_000), "2.50 GB"),
        (latency(46), "46.0 µs"),
        (latency(1540), "1.54 ms"),
        (latency(2_500_000), "2.50 s"),
        (duration(0.312), "0.31 s"),
        (duration(0.0042), "4.20 ms"),
        (duration(59.97), "1 min 00 s"),
        (duration(125), "2 min 05 s"),
        (duration(7260), "2 h 01 min"),
        (metric_title("pr_auc"), "PR AUC"),
        (metric_title("auc_slice_drop"), "AUC slice drop"),
        (metric_title("p99_us_b1"), "p99 latency, 1 row"),
        (metric_title("size_ratio"), "Size ratio"),
        (metric_title("max_rss_bytes"), "Max rss"),
        (metric_title("log_loss_drop"), "Log loss drop"),
    ],
)
def test_numbers_read_well(shown: str, expected: str) -> None:
    assert shown == expected


def test_scales_and_ticks_are_round() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0.761, 0.829) == pytest.approx([0.78, 0.8, 0.82])
    assert tick_labels([0.78, 0.8, 0.82]) == ["0.78", "0.80", "0.82"]
    assert tick_labels([0, 2000, 4000]) == ["0", "2,000", "4,000"]
    scale = Scale(1e-4, 1e-2, 0, 100, log=True)
    assert scale(1e-3) == pytest.approx(50)
    assert scale(1.0) == 100
    assert scale.ticks() == pytest.approx([1e-4, 1e-3, 1e-2])


def test_elements_escape_text_and_attributes() -> None:
    assert element("g", "<b>", class_='a"b', x=1.5, y=None) == '<g class="a&#34;b" x="1.5">&lt;b&gt;</g>'


def test_counts_at_the_chosen_threshold_are_those_of_the_confusion_matrix(pushed: tuple[Any, Any]) -> None:
    summary, evidence = copy.deepcopy(pushed)
    # Off the grid of the curve, and a count that no point of the grid has.
    evidence["evaluation"]["threshold"] = 0.3549
    for variant in (*evidence["evaluation"]["variants"], *summary["variants"]):
        if variant.get("confusion_matrix"):
            variant["confusion_matrix"]["matrix"] = [[811, 13], [17, 159]]
    content = thresholds(collect(summary, evidence))
    assert content is not None
    shown = {title: value for _, title, value in content["chosen"]}
    assert shown["True positive"] == "159"
    assert shown["False positive"] == "13"
    assert shown["Precision"] == percent(159 / 172)
