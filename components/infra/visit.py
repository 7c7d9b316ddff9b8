"""What a visit to a served variant finds: behind the embedded server's doors, or TensorFlow Serving's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .doors import visit_doors
from .engine import TensorFlowServing
from .golden import Golden
from .probe import ANSWERS
from .upstream import serve_upstream

__all__ = ["Visitor"]

Json = dict[str, Any]


class Visitor:
    """Asks the doors of a server on one variant, and keeps what it found. It never raises.

    Args:
        name: Name of the variant, by which it is served.
        golden: The golden requests.
        folder: Where its probe leaves what it answers in process.
        budget_s: Seconds of timing, over both doors and all batch sizes.

    Attributes:
        found: `by` ("embedded" or "tensorflow_serving"), `load_s`, `rss_bytes`, and for the doors `rest` and
            `grpc` what `visit_doors` tells.
    """

    def __init__(self, name: str, golden: Golden, folder: Path, budget_s: float) -> None:
        self._name, self._golden, self._folder, self._budget_s = name, golden, folder, budget_s
        self.found: Json = {"by": "embedded", "load_s": None, "rss_bytes": None}
        self._fail("it was not asked")

    def embedded(self, ready: Json) -> None:
        """Visit the server in the probe, which says in `ready` where it is."""
        self.found["load_s"] = ready["load_s"]
        self._ask(ready)

    def upstream(
        self, engine: TensorFlowServing, path: str, timeout_s: float, max_rss_bytes: int | None
    ) -> None:
        """Start TensorFlow Serving on the SavedModel in folder `path`, within bounds, and visit it."""
        self.found["by"] = "tensorflow_serving"
        told = serve_upstream(engine, path, self._name, self._folder, timeout_s, max_rss_bytes, self._ask)
        self.found |= {"load_s": told["load_s"], "rss_bytes": told["rss_bytes"]}
        if "error" in told:
            self._fail(told["error"])

    def _ask(self, ports: Mapping[str, int]) -> None:
        try:
            answers = json.loads((self._folder / ANSWERS).read_text(encoding="utf-8"))
            self.found |= visit_doors(ports, self._name, self._golden, answers, self._budget_s / 4)
        except Exception as error:  # whatever goes wrong here must show as a finding
            self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, reason: str) -> None:
        for door in ("rest", "grpc"):
            self.found[door] = {
                "max_golden_diff": None,
                "golden_rows": 0,
                "signatures": [],
                "latency_us": None,
                "reason": reason,
            }
