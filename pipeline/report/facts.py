"""A run's facts in one place: the summary and the evidence joined by variant name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .numbers import finite

__all__ = ["Facts", "Variant", "collect", "dig", "slice_name"]

_CONTROLS = ("float32", "tflite_float32")


@dataclass(frozen=True)
class Variant:
    """One form of the model, with whatever is known of it.

    Attributes:
        name: Name of the variant, "baseline" for the live model.
        mark: Place in the report's palette, the same in every chart; "base" for the baseline.
        runtime: tf, litert or empty.
        metrics: Metric -> value over all test rows.
        intervals: Metric -> [low, high].
        slices: As in evaluation.json.
        confusion_matrix: `{labels, matrix, axis}`, rows are true labels; None for regression.
        thresholds: `[{threshold, tp, fp, tn, fn}]`, by threshold.
        per_class: What was found of each class or label, as in evaluation.json.
        label_matrices: `[{label, matrix, axis}]` (multilabel).
        curves: `{roc, pr, calibration}`.
        residuals: `{bins, counts, predicted, actual, density, by_predicted}`.
        agreement: `{max_abs_diff, flip_rate}` against float32.
        cost: `size_bytes, weight_bytes, size_ratio, load_s, rss_bytes`, and in µs
            `b1_p50, b1_p99, b100_p50, b100_p99`.
        pushed_to: Path of the version folder, or None.
        skipped: Why it was not built or judged, or an empty string.
    """

    name: str
    mark: str
    runtime: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Any] = field(default_factory=dict)
    slices: Sequence[Mapping[str, Any]] = ()
    confusion_matrix: Mapping[str, Any] | None = None
    per_class: Sequence[Mapping[str, Any]] = ()
    label_matrices: Sequence[Mapping[str, Any]] = ()
    thresholds: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[str, Any] = field(default_factory=dict)
    residuals: Mapping[str, Any] = field(default_factory=dict)
    agreement: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, float | None] = field(default_factory=dict)
    pushed_to: str | None = None
    skipped: str = ""

    @property
    def target(self) -> str:
        """Where this form is served: TF Serving or TF Lite."""
        return "TF Lite" if self.runtime == "litert" or self.name.startswith("tflite") else "TF Serving"


@dataclass(frozen=True)
class Facts:
    """All that sections read.

    Attributes:
        summary: summary.json.
        evidence: What the pipeline gathered, by key.
        variants: In build order, baseline left out.
        baseline: The live model on the same rows, if there is one.
        task: binary, multiclass, multilabel, regression, or empty when nothing is known.
    """

    summary: Mapping[str, Any]
    evidence: Mapping[str, Any]
    variants: tuple[Variant, ...]
    baseline: Variant | None
    task: str

    @property
    def judged(self) -> tuple[Variant, ...]:
        """Variants that have metrics."""
        return tuple(variant for variant in self.variants if variant.metrics)

    @property
    def overlaid(self) -> tuple[Variant, ...]:
        """Judged variants, then the baseline."""
        return self.judged + ((self.baseline,) if self.baseline is not None else ())

    @property
    def candidates(self) -> tuple[Variant, ...]:
        """Judged variants that were pushed, or would have been, or else the first; TF Serving's first."""
        pushed = [variant for variant in self.judged if variant.pushed_to]
        push = dig(self.summary, "config", "push") or {}
        wanted = [
            variant for variant in self.judged if variant.name in (push.get("serving"), push.get("lite"))
        ]
        found = pushed or wanted or list(self.judged[:1])
        return tuple(sorted(found, key=lambda variant: variant.target != "TF Serving"))

    @property
    def telling(self) -> tuple[Variant, ...]:
        """Variants that large charts are drawn of: the candidates, float32 and the baseline."""
        kept = {variant.name for variant in self.candidates} | {"float32", "baseline"}
        return tuple(variant for variant in self.overlaid if variant.name in kept)

    @property
    def leading(self) -> Variant | None:
        """The variant that single-variant charts show: the first candidate."""
        return next(iter(self.candidates), None)

    @property
    def counted(self) -> str:
        """What matrices, thresholds and classes count: "rows", or with `data.weight` sums of "weight"."""
        weight = self.shown("ingest", "weight") or dig(self.summary, "config", "data", "weight")
        return "weight" if weight else "rows"

    def shown(self, *keys: str) -> Any:
        """Return `evidence[keys[0]][keys[1]]...`, or None."""
        return dig(self.evidence, *keys)


def collect(summary: Mapping[str, Any], evidence: Mapping[str, Any]) -> Facts:
    """Join summary and evidence; every key of either may be missing."""
    evaluation = evidence.get("evaluation") or {}
    judged = {item.get("name"): item for item in evaluation.get("variants") or ()}
    listed = {item.get("name"): item for item in summary.get("variants") or ()}
    probed = {item.get("name"): item for item in dig(evidence, "infra", "variants") or ()}
    names = list(dict.fromkeys([*listed, *judged]))
    merged = [{**_known(judged.get(name)), **_known(listed.get(name))} for name in names]
    for item in merged:
        # The evaluation's slices carry intervals and matrices that the summary leaves out.
        item["slices"] = (judged.get(item["name"]) or {}).get("slices") or item.get("slices") or []
    controls = {item["name"]: item for item in merged if item["name"] in _CONTROLS}
    variants = tuple(
        _variant(item, f"s{index % 8}", _cost(item, probed.get(item["name"]) or {}, controls))
        for index, item in enumerate(merged)
    )
    baseline = evaluation.get("baseline")
    task = (
        evaluation.get("task")
        or dig(evidence, "ingest", "label", "task")
        or dig(summary, "config", "data", "task")
    )
    return Facts(
        summary=summary,
        evidence=evidence,
        variants=variants,
        baseline=_variant({**baseline, "name": "baseline"}, "base", {}) if baseline else None,
        task=str(task or ""),
    )


def dig(value: Any, *keys: str) -> Any:
    """Return the nested value under `keys`, or None where any step is missing."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def slice_name(keys: Mapping[str, Any] | None) -> str:
    """Return "carrier=UA, origin=EWR", or "all rows" for no keys."""
    return ", ".join(f"{column}={value}" for column, value in (keys or {}).items()) or "all rows"


def _known(item: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (item or {}).items() if value is not None and value != {}}


def _cost(
    item: Mapping[str, Any], probe: Mapping[str, Any], controls: Mapping[str, Any]
) -> dict[str, float | None]:
    delays = item.get("latency_us") or probe.get("latency_us") or {}
    lite = str(item["name"]).startswith("tflite")
    # The same measure that the cost gate takes: weights against float32's, or file against file.
    measure, control = ("size_bytes", "tflite_float32") if lite else ("weight_bytes", "float32")
    own, whole = finite(item.get(measure)), finite((controls.get(control) or {}).get(measure))
    return {
        "size_bytes": finite(item.get("size_bytes")),
        "weight_bytes": finite(item.get("weight_bytes")),
        "size_ratio": own / whole if own is not None and whole else None,
        "load_s": finite(item.get("load_s", probe.get("load_s"))),
        "rss_bytes": finite(probe.get("rss_bytes")),
        **{
            f"{batch}_{rank}": finite(dig(delays, batch, rank))
            for batch in ("b1", "b100")
            for rank in ("p50", "p99")
        },
    }


def _variant(item: Mapping[str, Any], mark: str, cost: Mapping[str, float | None]) -> Variant:
    metrics = {
        name: number
        for name, value in (item.get("metrics") or {}).items()
        if (number := finite(value)) is not None
    }
    return Variant(
        name=str(item["name"]),
        mark=mark,
        runtime=str(item.get("runtime") or ""),
        metrics=metrics,
        intervals=item.get("intervals") or {},
        slices=item.get("slices") or (),
        confusion_matrix=item.get("confusion_matrix"),
        per_class=item.get("per_class") or (),
        label_matrices=item.get("label_matrices") or (),
        thresholds=sorted(item.get("thresholds") or (), key=lambda row: row["threshold"]),
        curves=item.get("curves") or {},
        residuals=item.get("residuals") or {},
        agreement=item.get("agreement") or {},
        cost=cost,
        pushed_to=item.get("pushed_to"),
        skipped=str(
            item.get("skipped") or (item.get("reason") if item.get("state") == "skipped" else "") or ""
        ),
    )
