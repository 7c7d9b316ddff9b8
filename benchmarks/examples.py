"""Run every example on its real data and hold it to its bars, beside the models of `rivals.py`.

    python benchmarks/examples.py [NAME ...] [--out build/examples]

Fetches the data, runs `headrace run examples/NAME.yaml`, compares with the rivals on the identical rows, and
prints one line a bar. Exits with 1 if a bar is missed.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality import Comparison, compare

ROOT = Path(__file__).parents[1]
HEADRACE = [sys.executable, "-m", "headrace.pipeline"]

Variants = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Bar:
    """What an example must reach.

    Attributes:
        text: The rule.
        value: The figure measured.
        holds: Whether it is reached.
    """

    text: str
    value: str
    holds: bool


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the examples and hold them to their bars.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BARS)} (default: all)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "examples", help="runs and pushed models"
    )
    parser.add_argument("--samples", type=int, default=200, help="bootstrap resamples (default: 200)")
    arguments = parser.parse_args()
    missed = 0
    for name in arguments.names or BARS:
        run = run_example(name, arguments.out)
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        found = compare(run, arguments.samples)
        push = summary["config"]["push"]
        for one in found:
            if one.variant in ("float32", push["serving"], push["lite"]):
                interval = f"{one.difference:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
                print(f"{name:<9} {one.metric} {one.variant} {one.value:.4f}", end=", ")
                print(f"{one.rival} {one.rival_value:.4f}, {interval}")
        for bar in BARS[name]({variant["name"]: variant for variant in summary["variants"]}, found):
            print(f"{name:<9} {'holds' if bar.holds else 'MISSED'}  {bar.text}: {bar.value}", flush=True)
            missed += not bar.holds
    return 1 if missed else 0


def run_example(name: str, out: Path) -> Path:
    """Fetch the data, run the example, and return the run's folder."""
    subprocess.run([*HEADRACE, "data", "fetch", name, str(ROOT / "build" / "data")], check=True)
    sets = [f"output.runs={out / 'runs'}", f"output.push={out / 'push'}"]
    command = [*HEADRACE, "run", str(ROOT / "examples" / f"{name}.yaml"), "--json"]
    done = subprocess.run(
        [*command, *(part for one in sets for part in ("--set", one))], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{name}: the run must be pushed. Received: exit code {done.returncode}")
    return out / "runs" / str(json.loads(done.stdout)["run_id"])


def _rival(found: list[Comparison], metric: str, variant: str, prefix: str) -> Comparison:
    return next(c for c in found if (c.metric, c.variant) == (metric, variant) and c.rival.startswith(prefix))


def _digits(variants: Variants, found: list[Comparison]) -> Iterator[Bar]:
    float32, int8 = variants["float32"], variants["tflite_int8"]
    accuracy, small = float32["metrics"]["accuracy"], int8["metrics"]["accuracy"]
    yield Bar("accuracy at least 0.975", f"{accuracy:.4f}", accuracy >= 0.975)
    yield Bar("int8 TF Lite within 0.3 points", f"{100 * (accuracy - small):+.2f}", accuracy - small <= 0.003)
    lite = variants["tflite_float32"]
    ratio = int8["size_bytes"] / lite["size_bytes"]
    yield Bar("int8 TF Lite at most 0.28 of float32 TF Lite", f"{ratio:.3f}", ratio <= 0.28)
    ours, theirs = int8["latency_us"]["b1"]["p50"], lite["latency_us"]["b1"]["p50"]
    yield Bar("int8 TF Lite faster at batch 1", f"{ours:.0f} µs against {theirs:.0f} µs", ours < theirs)


def _tweets(variants: Variants, found: list[Comparison]) -> Iterator[Bar]:
    one = _rival(found, "macro_f1", "float32", "tf-idf")
    values = f"{one.value:.4f} against {one.rival_value:.4f}"
    yield Bar("macro F1 at least that of TF-IDF + logistic regression", values, one.difference >= 0)
    drop = one.value - variants["tflite_int8"]["metrics"]["macro_f1"]
    yield Bar("int8 TF Lite within 0.5 points", f"{100 * drop:+.2f}", drop <= 0.005)


def _diamonds(variants: Variants, found: list[Comparison]) -> Iterator[Bar]:
    one = _rival(found, "rmse", "float32", "hgb defaults")
    values = f"{one.value:.1f} against {one.rival_value:.1f}"
    yield Bar("RMSE at most 1.05 of HistGradientBoosting's", values, one.value <= 1.05 * one.rival_value)


def _taxi(variants: Variants, found: list[Comparison]) -> Iterator[Bar]:
    one = _rival(found, "auc", "float32", "hgb defaults")
    values = f"{one.value:.4f} against {one.rival_value:.4f}"
    yield Bar("AUC at least HistGradientBoosting's - 0.005", values, one.difference >= -0.005)


def _vowels(variants: Variants, found: list[Comparison]) -> Iterator[Bar]:
    accuracy = variants["float32"]["metrics"]["accuracy"]
    yield Bar("accuracy at least 0.95", f"{accuracy:.4f}", accuracy >= 0.95)


BARS: dict[str, Callable[[Variants, list[Comparison]], Iterator[Bar]]] = {
    "taxi": _taxi,
    "diamonds": _diamonds,
    "digits": _digits,
    "tweets": _tweets,
    "vowels": _vowels,
}

if __name__ == "__main__":
    sys.exit(main())
