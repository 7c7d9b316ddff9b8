"""The driver of ingest: TFX's spans and versions, with a fingerprint that is a hash of the content."""

import json
import os
from typing import Any

from tfx.components.example_gen import driver, input_processor
from tfx.proto import example_gen_pb2
from tfx.utils import proto_utils

from headrace.components.ingest.fingerprint import content_fingerprint
from headrace.components.node import placed_config
from headrace.data.columns import plan_columns
from headrace.data.config import DataConfig
from headrace.data.readers.files import find_files
from headrace.data.readers.rows import referenced_files
from headrace.data.readers.spans import Span, has_span, newest_span

__all__ = ["ContentDriver", "input_parameters", "resolved_path"]


def input_parameters(path: str) -> dict[str, str]:
    """Return the parameters from which TFX's driver finds the input files of `data.path`.

    They hold the pattern below the data's folder, which may have {SPAN}, {VERSION} or {YYYY}, {MM}, {DD}, and
    not the folder: parameters are part of the cache key.
    """
    _, pattern = _base_and_pattern(path)
    splits = [example_gen_pb2.Input.Split(name="all", pattern=pattern)]
    return {
        "input_base": "",
        "input_config": proto_utils.proto_to_json(example_gen_pb2.Input(splits=splits)),
    }


def resolved_path(path: str, input_config: str) -> str:
    """Return `data.path` after the driver has put span and version into the pattern."""
    base, _ = _base_and_pattern(path)
    # An empty pattern, which stands for a whole folder, is absent from the JSON.
    pattern = json.loads(input_config)["splits"][0].get("pattern", "")
    return os.path.join(base, pattern) if pattern else base


def _base_and_pattern(path: str) -> tuple[str, str]:
    """Split a file or glob into the deepest fixed folder and a pattern; a folder is taken whole."""
    if os.path.isdir(path):
        return path, ""
    parts = path.split("/")
    fixed = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[{")), len(parts) - 1)
    return "/".join(parts[:fixed]) or "/", "/".join(parts[fixed:])


class _ContentProcessor(input_processor.FileBasedInputProcessor):
    """Finds the newest span and version; the fingerprint is a hash of what the files hold.

    Stock ExampleGen hashes file count, total bytes and modification times in whole seconds: an
    edit that keeps those goes unseen, and a copied folder looks new. It also forgets leading zeros of a span.

    Args:
        config: What the ingest node is given of the config.
        splits: One split, whose pattern starts at `base`.
        base: A folder.
    """

    def __init__(self, config: dict[str, Any], splits: Any, base: str) -> None:
        super().__init__(base, splits)
        self._config = config

    def resolve_span_and_version(self) -> tuple[int, int | None]:
        """Return span and version; without placeholders in the pattern, span 0."""
        span = self._span(self._splits[0].pattern)
        return (0, None) if span is None else (span.number, span.version)

    def get_pattern_for_span_version(self, pattern: str, span: int, version: int | None) -> str:
        """Return the pattern with span and version filled in, as the files write them."""
        newest = self._span(pattern)
        return pattern if newest is None else os.path.relpath(newest.path, self._input_base_uri)

    def get_input_fingerprint(self, span: int, version: int | None) -> str:
        """Return the SHA-256 over the content of all files of the span, and of pictures that they name."""
        pattern = self.get_pattern_for_span_version(self._splits[0].pattern, span, version)
        path = os.path.join(self._input_base_uri, pattern) if pattern else self._input_base_uri
        cache = (
            os.path.join(os.environ["HEADRACE_STORE"], "fingerprints.json")
            if "HEADRACE_STORE" in os.environ
            else None
        )
        data = DataConfig.model_validate(self._config["data"]).model_copy(update={"path": path})
        plan = plan_columns(data, self._config["usages"], self._config["evaluation.slices"])
        paths = find_files(data)
        return content_fingerprint([*paths, *referenced_files(paths, data, plan.read)], cache)

    def _span(self, pattern: str) -> Span | None:
        path = os.path.join(self._input_base_uri, pattern)
        return newest_span(path) if has_span(pattern) else None


class ContentDriver(driver.FileBasedDriver):
    """FileBasedExampleGen's driver with the content fingerprint."""

    _config: dict[str, Any]

    def resolve_exec_properties(
        self, exec_properties: dict[str, Any], pipeline_info: Any, component_info: Any
    ) -> dict[str, Any]:
        """Fill in span, version and fingerprint."""
        self._config = placed_config(exec_properties["config"])
        base, _ = _base_and_pattern(self._config["data"]["path"])
        resolved: dict[str, Any] = super().resolve_exec_properties(
            {**exec_properties, "input_base": base}, pipeline_info, component_info
        )
        return resolved | {"input_base": exec_properties["input_base"]}

    def get_input_processor(
        self, splits: Any, range_config: Any = None, input_base_uri: str | None = None
    ) -> input_processor.InputProcessor:
        """Return the processor that fingerprints content."""
        return _ContentProcessor(self._config, splits, input_base_uri or "")
