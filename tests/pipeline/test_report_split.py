"""The report tells how rows were divided, and what of the test split the model has seen."""

from typing import Any

import pytest

from headrace.pipeline.report import build
from headrace.pipeline.report.sections.split import told_split

from .report_fixture import run
from .test_report import HOSTILE, Page


def ingest(test_rows: int = 400, **changes: Any) -> dict[str, Any]:
    facts = {
        "method": "hash", "key": ["age", "city"], "seed": 3, "equal_keys": "spread",
        "ranked": {"all": False, "classes": []},
        "distinct": {"keys": 9000, "rows": 8000, "test_rows": 400},
        "test_rows_seen": 0,
    }  # fmt: skip
    return {"splits": {"train": 9000, "eval": 400, "test": test_rows}, "split": {**facts, **changes}}


NONE_SEEN = "No test row equals a training row in all that the model reads."
HASH = "Rows are dealt out by a hash of age, city (seed 3); rows with equal values are dealt out one by one."


@pytest.mark.parametrize(
    ("found", "section", "sentences"),
    [
        (ingest(), {}, [HASH, NONE_SEEN]),
        (
            ingest(key=["patient"], seed=0, equal_keys="together"), {},
            ["Rows are dealt out by a hash of patient (seed 0); rows with equal values share a split.",
             NONE_SEEN],
        ),
        (
            ingest(key=[f"k{n}" for n in range(1014)]), {},
            ["Rows are dealt out by a hash of k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11 and 1,002 "
             "more (seed 3); rows with equal values are dealt out one by one.", NONE_SEEN],
        ),
        (
            ingest(method="time", seed=None, equal_keys=None), {"column": "day"},
            ["Rows are divided by time in column day.", NONE_SEEN],
        ),
        (
            ingest(method="column", seed=None, equal_keys=None), {"column": "part"},
            ["Rows are divided by the values in column part.", NONE_SEEN],
        ),
        (
            ingest(1200, ranked={"all": True, "classes": []}, test_rows_seen=1100,
                   distinct={"keys": 27, "rows": 27, "test_rows": 27}), {},
            [
                HASH,
                "With under 1,000 rows, some may change their split when rows are appended.",
                "1,100 of 1,200 test rows equal a training row in all that the model reads.",
                "The 1,200 test rows are 27 different ones in what the model reads.",
            ],
        ),
        (
            ingest(ranked={"all": False, "classes": ["rare", "rarer"]}), {},
            [HASH, "2 classes have fewer than 30 rows, which may change their split when rows are appended.",
             NONE_SEEN],
        ),
        ({"splits": {"train": 9, "eval": 1, "test": 1}}, {}, []),
        ({}, {}, []),
    ],
)  # fmt: skip
def test_sentences(found: dict[str, Any], section: dict[str, Any], sentences: list[str]) -> None:
    assert told_split(found, section) == sentences


@pytest.mark.parametrize("method", ["hash", "time"])
def test_the_data_section_tells_them(method: str) -> None:
    summary, evidence = run()
    summary["config"]["data"]["split"] = {"method": method, "column": HOSTILE}
    evidence["ingest"]["split"] |= {"method": method, "test_rows_seen": 5330, "key": [HOSTILE]}
    page = Page(build(summary, evidence))
    assert "5,330 of 33,678 test rows equal a training row in all that the model reads." in page.text
    assert HOSTILE in page.text
