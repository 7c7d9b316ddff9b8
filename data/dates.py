"""What a date looks like, in ISO 8601 and in other forms."""

import re

__all__ = ["DATE_PATTERN", "SHORTEN", "date_rewrite"]

DATE_PATTERN = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
"""What a date looks like, as a regular expression that RE2 and Python read alike (full match)."""

SHORTEN = (r"([-T:])0([0-9]{2})", r"\1\2")
"""Pattern and replacement, for all places: takes away the 0 that `date_rewrite` puts before two digits."""

_DIRECTIVES = {
    "Y": "[0-9]{4}",
    "m": "[0-9]{1,2}",
    "d": "[0-9]{1,2}",
    "H": "[0-9]{1,2}",
    "M": "[0-9]{1,2}",
    "S": "[0-9]{1,2}",
}


def date_rewrite(form: str) -> tuple[str, str]:
    """Return how dates of another form become ISO 8601: a pattern for the whole text, and its replacement.

    Both are read alike by RE2 and Python. `SHORTEN` must be applied to what comes out.

    Args:
        form: As `strptime` has it: %Y, %m and %d, once each, and %H, %M and %S where there is a time;
            anything else stands for itself.

    Raises:
        ValueError: If it is none.

    Example:
        >>> pattern, replacement = date_rewrite("%d/%m/%Y")
        >>> re.sub(*SHORTEN, re.sub(pattern, replacement, "31/1/2024"))
        '2024-01-31'
    """
    pieces = re.split(r"%(.)", form)
    names = pieces[1::2]
    places = {name: f"\\{place}" for place, name in enumerate(names, 1)}
    if (
        not {"Y", "m", "d"} <= set(names)
        or not set(names) <= set(_DIRECTIVES)
        or len(set(names)) < len(names)
    ):
        raise ValueError(
            "a date's format must have %Y, %m and %d, and may have %H, %M and %S, once each. "
            f"Received: {form!r}"
        )
    parts = [
        re.escape(text) if place % 2 == 0 else f"({_DIRECTIVES[text]})" for place, text in enumerate(pieces)
    ]
    day = f"{places['Y']}-0{places['m']}-0{places['d']}"
    clock = f"T0{places.get('H', '0')}:0{places.get('M', '0')}" if {"H", "M"} & set(names) else ""
    return f"^{''.join(parts)}$", day + clock
