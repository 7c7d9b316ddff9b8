"""Numbers as the report prints them: thousands separators, significant digits, SI units."""

import math
import re
from typing import Any

__all__ = [
    "DASH", "METRIC_TITLES", "count", "duration", "finite", "interval", "latency", "metric", "metric_title",
    "percent", "ratio", "short", "signed", "significant", "size", "superscript",
]  # fmt: skip

DASH = "–"
"""Stands where there is no number."""

METRIC_TITLES = {
    "load_s": "Load time",
    "rss_bytes": "Peak memory",
    "weight_bytes": "Weights",
    "auc": "AUC",
    "pr_auc": "PR AUC",
    "f1": "F1",
    "macro_f1": "Macro F1",
    "weighted_f1": "Weighted F1",
    "micro_f1": "Micro F1",
    "micro_auc": "Micro AUC",
    "micro_pr_auc": "Micro PR AUC",
    "top_k_accuracy": "Top-k accuracy",
    "hamming_loss": "Hamming loss",
    "median_ae": "Median |error|",
    "mape": "MAPE",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "flip_rate": "Flip rate",
    "tfma_difference": "TFMA difference",
    "max_abs_diff": "Max |difference|",
    "lr": "Learning rate",
    "learning_rate": "Learning rate",
}

_MINUS = "−"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def finite(value: Any) -> float | None:
    """Return `value` as a float, or None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def metric_title(name: str) -> str:
    """Return a metric's name for people: `pr_auc` -> "PR AUC"."""
    if name in METRIC_TITLES:
        return METRIC_TITLES[name]
    if found := re.fullmatch(r"(?:max_)?(p\d+)_us_b(\d+)", name):
        return f"{found[1]} latency, {found[2]} {'row' if found[2] == '1' else 'rows'}"
    stem, _, last = name.rpartition("_")
    if stem and last in ("drop", "slice"):
        return f"{metric_title(stem)} {last}"
    name = name.removesuffix("_bytes")
    return name.replace("_", " ").strip().capitalize()


def count(value: Any) -> str:
    """Format a count with thousands separators; weighted counts keep one decimal."""
    number = finite(value)
    if number is None:
        return DASH
    return _sign(f"{number:,.0f}" if abs(number - round(number)) < 1e-9 else f"{number:,.1f}")


def significant(value: Any, digits: int = 4) -> str:
    """Format to `digits` significant digits, in powers of ten below 0.0001 and from 10^9 on."""
    number = finite(value)
    if number is None:
        return DASH
    if number == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(number)))
    if magnitude < -4 or magnitude >= 9:
        mantissa, exponent = f"{number:.{max(0, min(digits, 3) - 1)}e}".split("e")
        return _sign(f"{mantissa} × 10{superscript(int(exponent))}")
    return _sign(f"{number:,.{max(0, digits - 1 - magnitude)}f}")


def superscript(power: int) -> str:
    """Return an exponent as it stands above the line: -3 -> "⁻³"."""
    return str(power).translate(_SUPERSCRIPTS)


def metric(value: Any) -> str:
    """Format a metric: four decimals within [-1, 1], else four significant digits."""
    number = finite(value)
    if number is None:
        return DASH
    if number == 0 or 5e-5 <= abs(number) <= 1:
        return _sign(f"{number:.4f}")
    return significant(number, 4)


def interval(bounds: Any) -> str:
    """Format [low, high] as "0.8052 to 0.8131", or nothing."""
    if (
        not isinstance(bounds, list | tuple)
        or len(bounds) != 2
        or None in (finite(bounds[0]), finite(bounds[1]))
    ):
        return ""
    return f"{metric(bounds[0])} to {metric(bounds[1])}"


def short(value: Any) -> str:
    """Format to four significant digits, without trailing zeros: 5 stays "5"."""
    shown = significant(value, 4)
    return shown.rstrip("0").rstrip(".") if "." in shown and "×" not in shown else shown


def signed(value: Any) -> str:
    """Format a difference of metrics with its sign; what rounds to zero has none."""
    number = finite(value)
    if number is None:
        return DASH
    if abs(number) < 5e-5:
        return "0.0000"
    return ("+" if number > 0 else "") + metric(number)


def percent(value: Any, digits: int = 1) -> str:
    """Format a share in [0, 1] as a percentage; tiny shares stay visible as "<0.1 %"."""
    number = finite(value)
    if number is None:
        return DASH
    smallest = 10.0**-digits
    if 0 < number * 100 < smallest / 2:
        return f"<{smallest:g} %"
    return f"{number * 100:.{digits}f} %"


def ratio(value: Any) -> str:
    """Format a ratio of sizes or speeds as "0.26×"."""
    number = finite(value)
    return DASH if number is None else f"{number:.2f}×"


def size(value: Any) -> str:
    """Format bytes in decimal units with three significant digits."""
    number = finite(value)
    if number is None:
        return DASH
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(number) >= scale:
            return f"{_three(number / scale)} {unit}"
    return f"{number:.0f} B"


def latency(value: Any) -> str:
    """Format microseconds as µs, ms or s with three significant digits."""
    number = finite(value)
    if number is None:
        return DASH
    if number < 1000:
        return f"{_three(number)} µs"
    return f"{_three(number / 1e3)} ms" if number < 1e6 else f"{_three(number / 1e6)} s"


def duration(value: Any) -> str:
    """Format seconds as "4.20 ms", "0.31 s", "12.4 s" or "3 min 05 s"."""
    number = finite(value)
    if number is None:
        return DASH
    if 0 < number < 0.1:
        return latency(number * 1e6)
    if number < 10:
        return f"{number:.2f} s"
    if number < 59.95:
        return f"{number:.1f} s"
    minutes, seconds = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _three(number: float) -> str:
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def _sign(text: str) -> str:
    return text.replace("-", _MINUS, 1) if text.startswith("-") else text
