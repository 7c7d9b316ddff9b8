"""What a finished run and `headrace why` print."""

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from headrace.pipeline.launch import _unexpected
from headrace.pipeline.outcome import print_gates, print_outcome
from headrace.pipeline.predict import _without_notices

from .report_fixture import run


def _console() -> Console:
    return Console(file=io.StringIO(), width=120)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _gate(**parts: Any) -> dict[str, Any]:
    return {"kind": "data", "variant": None, "slice": None, "metric": "anomalies", "state": "PASS",
            "reason": "as it is.", **parts}  # fmt: skip


def test_a_reason_never_runs_into_a_long_name() -> None:
    long = _gate(kind="variant", variant="tflite_dynamic_int8", metric="accuracy_slice_drop")
    console = _console()
    print_gates({"verdict": "pushed", "gates": [_gate(), long]}, console)
    lines = _text(console).splitlines()[1:]
    assert lines[1].endswith("variant tflite_dynamic_int8 accuracy_slice_drop  as it is.")
    assert len({line.index("as it is.") for line in lines}) == 1


def test_gates_of_the_data_name_their_split() -> None:
    console = _console()
    gates = [_gate(slice={"split": split}) for split in ("train", "eval", "test")]
    print_gates({"verdict": "pushed", "gates": gates}, console)
    assert [line.split()[3] for line in _text(console).splitlines()[1:]] == ["train", "eval", "test"]


def test_a_failing_gate_is_told_once() -> None:
    failing = _gate(state="FAIL", reason="auc is low.")
    error = {"message": "1 gate rejected the model.\nFAIL  quality  float32, auc: auc is low."}
    console = _console()
    print_gates({"verdict": "rejected", "error": error, "gates": [failing]}, console)
    assert _text(console).count("auc is low.") == 1
    assert "1 gate rejected the model." in _text(console)


def test_warnings_are_counted_in_the_head_and_told_before_what_passed() -> None:
    warned = _gate(metric="skew", state="WARN", slice={"split": "test"}, reason="hour differs.")
    summary, _ = run("binary")
    summary["gates"] = [_gate(), warned, _gate(state="NO_BASELINE")]
    console = _console()
    print_outcome(SimpleNamespace(summary=summary, report_path="r", summary_path="s"), console)
    lines = _text(console).splitlines()
    assert "gates    1 WARN, 1 NO_BASELINE, 1 PASS" in lines
    assert "warning  data skew test: hour differs." in lines
    console = _console()
    print_gates(summary, console)
    assert [line.split()[0] for line in _text(console).splitlines()[1:]] == ["WARN", "NO_BASELINE", "PASS"]


def test_a_variant_larger_than_float32_says_so() -> None:
    summary, _ = run("binary")
    sizes = {variant["name"]: variant for variant in summary["variants"]}
    sizes["int8_weights"]["size_bytes"] = sizes["float32"]["size_bytes"] + 1
    console = _console()
    print_outcome(SimpleNamespace(summary=summary, report_path="r", summary_path="s"), console)
    assert [line.split()[0] for line in _text(console).splitlines() if "(larger)" in line] == ["int8_weights"]


def test_no_line_of_the_outcome_ends_in_blanks() -> None:
    summary, _ = run("binary")
    console = _console()
    print_outcome(SimpleNamespace(summary=summary, report_path="r", summary_path="s"), console)
    lines = _text(console).splitlines()
    assert any(line.startswith("tflite_int8") for line in lines)
    assert [line for line in lines if line != line.rstrip()] == []


def test_an_unexpected_error_is_cut_between_words_and_names_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = _unexpected(ValueError("word " * 200), str(tmp_path / "trainer.log"))
    assert result.error.endswith(" word …")
    assert len(result.error) < 420
    assert result.hint == "the traceback is in trainer.log"


def test_notices_of_the_runtime_are_dropped_and_warnings_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with _without_notices():
        os.write(2, b"INFO: Created a delegate.\nWARNING: it is slow.\n")
    os.write(2, b"INFO: after.\n")
    assert capfd.readouterr().err == "WARNING: it is slow.\nINFO: after.\n"
