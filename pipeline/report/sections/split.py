"""How the rows were divided, and what of the test split the model has seen."""

from collections.abc import Mapping
from typing import Any

from headrace.components.ingest.split_facts import split_words

from ..numbers import count

__all__ = ["told_split"]

_MOST_NAMED = 12
_EQUAL_KEYS = {
    "spread": "rows with equal values are dealt out one by one",
    "together": "rows with equal values share a split",
}


def told_split(ingest: Mapping[str, Any], section: Mapping[str, Any]) -> list[str]:
    """Return sentences.

    Args:
        ingest: Content of ingest.json; nothing is said of one without `split`, as older versions wrote it.
        section: `data.split` of the config.
    """
    facts, splits = ingest.get("split"), ingest.get("splits")
    if not facts or not splits:
        return []
    test, distinct = splits["test"], facts["distinct"]["test_rows"]
    said = split_words(facts, test)
    if not facts["test_rows_seen"]:
        said.append("no test row equals a training row in all that the model reads")
    if distinct < test:
        said.append(
            f"the {count(test)} test rows are {count(distinct)} different ones in what the model reads"
        )
    return [_divided(facts, section), *(f"{text[0].upper()}{text[1:]}." for text in said)]


def _divided(facts: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    if facts["method"] != "hash":
        how = "time" if facts["method"] == "time" else "the values"
        return f"Rows are divided by {how} in column {section.get('column')}."
    key = facts["key"]
    more = f" and {count(len(key) - _MOST_NAMED)} more" if len(key) > _MOST_NAMED else ""
    named = ", ".join(key[:_MOST_NAMED])
    equal = _EQUAL_KEYS[facts["equal_keys"]]
    return f"Rows are dealt out by a hash of {named}{more} (seed {facts['seed']}); {equal}."
