"""By TFX's launcher: what was altered is made again or refused by name, what is doubted is made again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace.components.nodes.component import make_component
from headrace.components.nodes.ingest import input_parameters
from headrace.data.errors import EnvironmentProblem, HeadraceError
from headrace.data.section import canonical_json
from headrace.pipeline.guard import Guard
from headrace.pipeline.launch import LaunchResult

from ..data.test_sums import DAMAGE
from .guard_nodes import NODES, launch_of, launch_small

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_STORE", str(tmp_path / ".store"))
    monkeypatch.setenv("HEADRACE_SCRATCH", str(tmp_path / ".store" / "scratch"))


def run(root: Path, run_id: str, **options: Any) -> dict[str, LaunchResult]:
    """Launch all nodes; return node -> result."""
    return {node: launch_small(root, node, run_id, **options) for node in NODES}


def states(results: dict[str, LaunchResult]) -> list[str]:
    return [result.state for result in results.values()]


def place(results: dict[str, LaunchResult], node: str) -> Path:
    return Path(results[node].outputs[node])


def test_what_is_whole_is_taken_again(tmp_path: Path) -> None:
    first = run(tmp_path, "one")
    assert states(first) == ["complete"] * 3
    assert (place(first, "gates") / "deep" / "file").read_text() == "gates(infra(variants()))"
    again = run(tmp_path, "two")
    assert states(again) == ["cached"] * 3
    assert again["gates"].finding == "made gates"
    assert again["gates"].outputs == first["gates"].outputs
    # A resumed run meets its own executions, complete or cached, and takes them as they are.
    assert states(run(tmp_path, "one")) == ["complete"] * 3
    assert states(run(tmp_path, "two")) == ["cached"] * 3
    assert not list(tmp_path.rglob("driver_execution/*"))


@pytest.mark.parametrize("how", ["moved", "copied and altered", "copied and removed"])
def test_a_store_found_elsewhere_keeps_its_results_and_never_points_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setenv("HEADRACE_STORE", str(here / ".store"))
    first = run(here, "one")
    if how == "moved":
        here.rename(there)
    else:
        shutil.copytree(here, there)
        if how == "copied and removed":
            shutil.rmtree(here)
        else:
            (place(first, "infra") / "deep" / "file").write_text("of the original")
    monkeypatch.setenv("HEADRACE_STORE", str(there / ".store"))
    again = run(there, "two")
    assert states(again) == ["cached"] * 3
    for node in NODES:
        assert place(again, node) == there / place(first, node).relative_to(here)
    # Sums are compared in the copy as well.
    (place(again, "gates") / "deep" / "file").write_text("altered")
    third = run(there, "three")
    assert states(third) == ["cached", "cached", "complete"]
    assert place(third, "gates").is_relative_to(there)
    assert (place(third, "gates") / "deep" / "file").read_text() == "gates(infra(variants()))"
    assert how != "copied and removed" or not here.exists()


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_altered_result_is_made_again_and_the_new_one_is_taken(tmp_path: Path, damage: str) -> None:
    first = run(tmp_path, "one")
    act, how = DAMAGE[damage]
    act(place(first, "infra") / "deep" / "file")
    second = run(tmp_path, "two")
    assert states(second) == ["cached", "complete", "complete"]
    why = f"made infra; made again, since in the cached result deep/file is {how}"
    assert second["infra"].finding == why
    assert second["gates"].finding == "made gates"
    assert place(second, "infra") != place(first, "infra")
    assert (place(second, "gates") / "deep" / "file").read_text() == "gates(infra(variants()))"
    third = run(tmp_path, "three")
    assert states(third) == ["cached"] * 3
    assert third["infra"].outputs == second["infra"].outputs


def test_an_added_file_and_a_lost_folder_make_a_result_again(tmp_path: Path) -> None:
    first = run(tmp_path, "one")
    (place(first, "variants") / "deep" / "more").write_text("")
    second = run(tmp_path, "two")
    assert states(second) == ["complete"] * 3
    assert second["variants"].finding.endswith("in the cached result deep/more is added")
    shutil.rmtree(place(second, "variants"))
    third = run(tmp_path, "three")
    assert states(third) == ["complete"] * 3
    assert third["variants"].finding.endswith("in the cached result its files are missing")


def test_each_damaged_result_in_turn_is_passed_over(tmp_path: Path) -> None:
    for number in range(3):
        found = launch_small(tmp_path, "variants", f"run{number}")
        assert found.state == "complete"
        Path(found.outputs["variants"], "other").write_text("OTHER")
    whole = launch_small(tmp_path, "variants", "whole")
    assert launch_small(tmp_path, "variants", "last").outputs == whole.outputs


def test_what_was_forced_is_taken_later(tmp_path: Path) -> None:
    run(tmp_path, "one")
    forced = run(tmp_path, "two", cache=False)
    assert states(forced) == ["complete"] * 3
    assert forced["infra"].finding == "made infra"
    assert run(tmp_path, "three")["variants"].outputs == forced["variants"].outputs


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("damage", DAMAGE)
def test_an_input_altered_after_its_node_is_refused_by_name(tmp_path: Path, damage: str, cache: bool) -> None:
    made = launch_small(tmp_path, "variants", "one", cache=cache)
    act, how = DAMAGE[damage]
    act(Path(made.outputs["variants"], "deep", "file"))
    rule = rf"an input must be as its node left it\. Received: deep/file is {how} \(variants: .*/variants/1\)"
    with pytest.raises(EnvironmentProblem, match=rule) as caught:
        launch_small(tmp_path, "infra", "one", cache=cache)
    assert caught.value.hint == "start a new run: it makes again what was altered"
    assert states(run(tmp_path, "two")) == ["complete"] * 3


def test_a_doubtful_result_is_made_again_till_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubts = {"infra": {"infra": "the check of tflite_int8 timed out"}}
    monkeypatch.setenv("GUARD_TEST_DOUBTS", json.dumps(doubts))
    first = run(tmp_path, "one")
    # Within the run it counts: the gates judge it.
    assert states(first) == ["complete"] * 3
    second = run(tmp_path, "two")
    assert states(second) == ["cached", "complete", "complete"]
    why = "made infra; made again, since in the cached result the check of tflite_int8 timed out"
    assert second["infra"].finding == why
    monkeypatch.delenv("GUARD_TEST_DOUBTS")
    third = run(tmp_path, "three")
    assert states(third) == ["cached", "complete", "complete"]
    assert states(run(tmp_path, "four")) == ["cached"] * 3


def test_a_node_may_doubt_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doubts = {"gates": {"infra": "p99_us_b1 of tflite_int8 failed"}}
    monkeypatch.setenv("GUARD_TEST_DOUBTS", json.dumps(doubts))
    first = run(tmp_path, "one")
    assert states(first) == ["complete"] * 3
    monkeypatch.delenv("GUARD_TEST_DOUBTS")
    second = run(tmp_path, "two")
    assert states(second) == ["cached", "complete", "complete"]
    why = "made infra; made again, since in the cached result p99_us_b1 of tflite_int8 failed"
    assert second["infra"].finding == why
    assert states(run(tmp_path, "three")) == ["cached"] * 3


def test_a_result_without_sums_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("headrace.components.nodes.executor.SUMS", "no_sums")
        launch_small(tmp_path, "variants", "old")
        # What an earlier release made is still handed over within its own run.
        assert launch_small(tmp_path, "infra", "old").state == "complete"
    again = launch_small(tmp_path, "variants", "new")
    assert again.finding.endswith("made again, since in the cached result no sums were recorded")


def test_ingest_with_its_own_driver_is_guarded_too(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x,y\n" + "".join(f"{n},{n % 2}\n" for n in range(20)))
    plan = {"data": {"path": str(tmp_path / "rows.csv"), "label": "y"}, "usages": [], "evaluation.slices": []}
    parameters = {
        "node": "ingest",
        "run": "tests.pipeline.test_guard:ingest",
        "config": canonical_json(plan),
        "sources": "s",
        "resumable": "no",
        **input_parameters(str(tmp_path / "rows.csv")),
    }

    def launch(run_id: str) -> LaunchResult:
        made = make_component("ingest", {}, {"examples": "Examples"}, parameters)
        return launch_of(tmp_path / "runs", [made], "ingest", run_id, cache=True)

    first = launch("one")
    assert (first.state, launch("two").state) == ("complete", "cached")
    Path(first.outputs["examples"], "ingest.json").write_text("{ }")
    third = launch("three")
    assert third.finding == "read; made again, since in the cached result ingest.json is altered"
    assert launch("four").outputs == third.outputs


def ingest(ctx: Any) -> Any:
    """Stand in for ingest."""
    from headrace.components.node import NodeResult

    Path(ctx.outputs["examples"], "ingest.json").write_text("{}")
    return NodeResult("read")


def test_a_cached_result_that_was_not_checked_is_no_result(tmp_path: Path) -> None:
    class Artifact:
        id, uri = 7, "/somewhere"

    guard = Guard(str(tmp_path), None, None)
    guard.check_taken([Artifact()])  # the launcher met an execution of its own and called no driver
    guard._taken = set()
    with pytest.raises(HeadraceError, match=r"must have been checked\. Received: /somewhere"):
        guard.check_taken([Artifact()])
