"""What `headrace node` does with its options."""

import importlib
from collections.abc import Callable, Sequence

from headrace.components.own_code import import_paths, search_first
from headrace.data.errors import ConfigError, HeadraceError
from headrace.data.extras import require
from headrace.data.readers.spans import has_span, newest_span

from .config import RunConfig
from .packed import load_any_config
from .teamwork import own_team, work_along

__all__ = ["run_command"]


def run_command(
    *,
    node_id: str,
    config: str,
    config_sha256: str | None,
    run_id: str,
    root: str | None,
    metadata: str | None,
    span: str,
    force: bool,
    texts: Sequence[str],
    executor_input: str | None,
    overrides: Sequence[str],
    tell: Callable[[str], None],
    tell_error: Callable[[HeadraceError], None],
) -> int:
    """Run a node, or a share of its work beside its chief; tell how it ended and return the exit code.

    Args:
        node_id: A node of the graph, or "report".
        config: Path, packed config or URI.
        config_sha256: Hash that the content of a URI must have.
        run_id: Id of the run.
        root: Where relative paths start.
        metadata: URL of the metadata's database, instead of the config's.
        span: Number of the data's span; "" takes the newest.
        force: Whether nothing is taken from earlier runs.
        texts: Overrides whose values are taken as they are.
        executor_input: JSON that Kubeflow gives a step; None elsewhere.
        overrides: "dotted.path=value" texts.
        tell: Prints a line for people.
        tell_error: Prints an error.

    Raises:
        HeadraceError: If the config or the command is wrong, or a folder cannot be written.
    """
    from .step import check_node, run_step

    check_node(node_id)
    require("pipeline")
    settings = [*overrides, *([] if metadata is None else [f"metadata.url={metadata}"])]
    loaded = load_any_config(config, settings, texts=texts, root=root, sha256=config_sha256)
    loaded = _with_span(loaded, span)
    search_first(loaded.code, import_paths(loaded.model_dump(mode="json")))
    team = own_team(loaded, node_id, run_id)
    if team is not None and team.number:
        tell(f"{node_id}_{team.number}: {work_along(team, node_id)}")
        return 0
    end = run_step(loaded, node_id, run_id, cache=not force, concludes=executor_input is None)
    if executor_input is not None:
        # By name: rooms import downwards only.
        importlib.import_module("headrace.kubeflow.display").show(executor_input, node_id, end, loaded)
    if end.result is not None and end.error is None:
        tell(f"{node_id} {end.result.state}: {end.result.finding}")
    if end.error is not None:
        tell_error(end.error)
    if end.run is not None:
        tell(f"verdict {end.run.verdict}; summary {end.run.summary_path}; report {end.run.report_path}")
    # A step that only concludes has done its work even where the run failed.
    return end.error.exit_code if end.error is not None else 0


def _with_span(config: RunConfig, span: str) -> RunConfig:
    """Return `config` with the data path of one span."""
    if span.strip() in ("", "newest"):
        return config
    path = config.data.path
    if not span.strip().isdigit() or not has_span(path):
        raise ConfigError(
            f"`--span` must be a number, and `data.path` have a placeholder for it. Received: {span}, {path}"
        )
    chosen = newest_span(path, int(span)).path
    return config.model_copy(update={"data": config.data.model_copy(update={"path": chosen})})
