"""Which texts are dates, in ISO 8601 and in other forms; the standard library is the judge."""

import datetime
import random

import pyarrow as pa
import pytest

from headrace.data.date_texts import guess_format, unfit_for_date
from headrace.data.dates import date_rewrite


def is_date(text: str, form: str) -> bool:
    try:
        datetime.datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def unfit(texts: list[str | None], form: str | None = None) -> list[bool]:
    found: list[bool] = unfit_for_date(pa.array(texts, pa.string()), form).to_pylist()
    return found


@pytest.mark.parametrize(
    ("form", "written"),
    [
        (None, "{0:04}-{1:02}-{2:02}"),
        ("%d/%m/%Y", "{2}/{1:02}/{0:04}"),
        ("%m-%d-%Y", "{1}-{2}-{0:04}"),
        ("%Y%m%d", "{0:04}{1:02}{2:02}"),
        ("%d.%m.%Y %H:%M", "{2}.{1}.{0:04} {3}:{4:02}"),
        ("on %Y, %d(%m) at %H+%M*%S", "on {0:04}, {2}({1}) at {3}+{4}*59"),
    ],
)
def test_a_date_is_what_the_calendar_has(form: str | None, written: str) -> None:
    rng = random.Random(5)
    texts = [written.format(*(rng.randint(0, most) for most in (2100, 13, 32, 24, 60))) for _ in range(2000)]
    texts = [text for text in texts if not text.startswith("0000") and "0000" not in text]
    wanted = [not is_date(text, form or "%Y-%m-%d") for text in texts]
    assert 0.1 < sum(wanted) / len(wanted) < 0.9
    assert unfit(texts, form) == wanted


def test_what_is_missing_is_no_text() -> None:
    assert unfit([None, "x", "2024-02-29", "2023-02-29", "2024-02-29 24:00"]) == [
        False,
        True,
        False,
        True,
        True,
    ]
    assert unfit([]) == []
    assert unfit(["2024-02-29"], "%d/%m/%Y") == [True]


@pytest.mark.parametrize("form", ["%d/%m", "%d/%m/%y", "%Y-%m-%d %Y", "%b %d %Y", "31/12/2024", "%Y%m%d%%"])
def test_a_format_must_name_a_day(form: str) -> None:
    with pytest.raises(ValueError, match=r"must have %Y, %m and %d, and may have %H, %M and %S, once each"):
        date_rewrite(form)


@pytest.mark.parametrize("text", ["31/12", "99/99/2024", "1/1/24", "2024-12-31", "12:30", "a/b/c"])
def test_no_format_is_guessed_where_there_is_none(text: str) -> None:
    assert guess_format(text) in (None, "%Y-%m-%d")
