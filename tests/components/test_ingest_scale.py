"""Memory stays bounded while rows grow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "ingest.py"
NAMES = ("carrier", "tailnum", "origin", "dest")
NUMBERS = ("month", "day", "hour", "minute", "sched_dep_time", "sched_arr_time", "flight", "distance")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_million_rows_stay_under_two_gigabytes(tmp_path):
    rng = np.random.default_rng(0)
    texts = pa.array([f"N{i:05d}" for i in range(4000)])
    schema = pa.schema([(n, pa.string()) for n in NAMES] + [(n, pa.int64()) for n in (*NUMBERS, "late")])
    rows = 300_000
    with arrow_csv.CSVWriter(str(tmp_path / "flights.csv"), schema) as sink:
        for _ in range(10):
            columns = [texts.take(pa.array(rng.integers(0, 4000, rows))) for _ in NAMES]
            columns += [pa.array(rng.integers(0, 5000, rows)) for _ in NUMBERS]
            columns.append(pa.array(rng.integers(0, 2, rows)))
            sink.write_batch(pa.record_batch(columns, schema=schema))
    command = [sys.executable, str(BENCHMARK), "--measure", "headrace", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["peak_rss_mb"] < 2000
