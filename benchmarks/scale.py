"""What each node costs as rows grow: CPU seconds, peak memory and bytes written, and the line through them.

    python benchmarks/scale.py --data DIR --rows 33678 336776 1010328 --out build/scale.jsonl
    python benchmarks/scale.py --data DIR --rows 336776 --set 'evaluation.slices=[]' --out build/other.jsonl
    python benchmarks/scale.py --out build/scale.jsonl         the table of what was measured

Runs examples/flights.yaml without a search and with two epochs, each size in fresh folders and processes.
Fewer rows are the first ones, more are flights repeated with jitter: rows grow, vocabularies hardly do. Each
run adds a line to the file; the table has a fixed part and a part per million rows of each node, by least
squares, and how far the farthest point lies off that line.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from ingest import repeat_with_jitter

from headrace.data.samples import fetch

CONFIG = Path(__file__).parents[1] / "examples" / "flights.yaml"
EPOCHS = 2


def run_once(config: Path, source: str, rows: int, overrides: list[str]) -> dict[str, Any]:
    """Run a config of flights on `rows` rows and return what its nodes took."""
    with tempfile.TemporaryDirectory(prefix="headrace-scale-") as temp:
        path = resized(source, f"{temp}/flights.csv", rows)
        settings = [
            f"data.path={path}",
            "tuning.enabled=false",
            f"training.epochs={EPOCHS}",
            "training.early_stopping=null",
            f"validation.schema_path={temp}/schema.pbtxt",
            f"output.runs={temp}/runs",
            f"output.push={temp}/push",
            *overrides,
        ]
        command = [sys.executable, "-m", "headrace.pipeline", "run", str(config), "--json"]
        command += [part for text in settings for part in ("--set", text)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        # Models of few rows are rejected; what their nodes took is known all the same.
        if done.returncode not in (0, 3):
            raise SystemExit(f"the run on {rows:,} rows must end well. Received: exit code {done.returncode}")
        summary = json.loads(Path(json.loads(done.stdout)["summary_path"]).read_text(encoding="utf-8"))
        written = Path(temp, "runs", ".store", "artifacts")
        nodes = {
            node["id"]: {
                "cpu_s": round(node["cpu_s"], 2),
                "wall_s": round(node["wall_s"], 2),
                "peak_rss_bytes": node["peak_rss_bytes"],
                "bytes": sum(
                    file.stat().st_size for file in (written / node["id"]).rglob("*") if file.is_file()
                ),
            }
            for node in summary["nodes"]
            if node["state"] != "skipped"
        }
        return {
            "rows": rows,
            "input_bytes": Path(path).stat().st_size,
            "config": config.name,
            "overrides": overrides,
            "metadata_bytes": Path(temp, "runs", ".store", "metadata.sqlite").stat().st_size,
            "nodes": nodes,
        }


def resized(source: str, target: str, rows: int) -> str:
    """Write a file of `rows` rows."""
    with open(source, encoding="utf-8") as stream:
        head = list(islice(stream, rows + 1))
    if len(head) <= rows:
        return repeat_with_jitter(source, target, rows)
    Path(target).write_text("".join(head), encoding="utf-8")
    return target


def line_of(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the fixed part, the part per million rows, and how far off the farthest point is (a share)."""
    rows, values = np.array(points, float).T
    # Weighted by size, so that each point's share of error counts, not the largest point alone.
    slope, fixed = np.polyfit(rows / 1e6, values, 1, w=1 / np.maximum(values, 1e-9))
    distances = values / (fixed + slope * rows / 1e6) - 1
    return float(fixed), float(slope), float(distances[np.argmax(np.abs(distances))])


def table(points: list[dict[str, Any]]) -> str:
    """Return a Markdown table, a row a node."""
    points = sorted(points, key=lambda point: point["rows"])
    sizes = " | ".join(f"{point['rows']:,}" for point in points)
    lines = [
        f"| node | CPU s at {sizes} | fixed s | s/M rows | farthest | GB written/M rows | peak GB |",
        "|---" * (len(points) + 6) + "|",
    ]
    for node in points[-1]["nodes"]:
        known = [(point["rows"], point["nodes"][node]) for point in points if node in point["nodes"]]
        cells = [
            f"{point['nodes'][node]['cpu_s']:.1f}" if node in point["nodes"] else "-" for point in points
        ]
        if len(known) > 1:
            fixed, slope, off = line_of([(rows, told["cpu_s"]) for rows, told in known])
            per_million = [[rows / 1e6 for rows, _ in known], [told["bytes"] / 1e9 for _, told in known]]
            written = max(float(np.polyfit(*per_million, 1)[0]), 0.0)
            cells += [f"{fixed:.1f}", f"{slope:.1f}", f"{off:+.0%}", f"{written:.3f}"]
        else:
            cells += ["-"] * 4
        cells.append(f"{points[-1]['nodes'][node]['peak_rss_bytes'] / 1e9:.1f}")
        lines.append(f"| {node} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of flights.csv; it is fetched there if it is not")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of flights; by default the example")
    parser.add_argument("--rows", type=int, nargs="*", default=[], help="sizes to measure")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--out", type=Path, required=True, help="file with one JSON object a run")
    options = parser.parse_args()
    if options.rows and options.data is None:
        parser.error("--rows needs --data")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for rows in options.rows:
        found = run_once(options.config, fetch("flights", options.data), rows, options.overrides)
        with options.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(found) + "\n")
    points = [json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]
    if len({point["rows"] for point in points}) > 1:
        print(table(points))


if __name__ == "__main__":
    main()
