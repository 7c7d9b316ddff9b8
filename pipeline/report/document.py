"""Put the sections together into one HTML text."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from .facts import Facts, collect
from .sections.classes import classes
from .sections.crossval import crossval
from .sections.curves import curves, thresholds
from .sections.data import data
from .sections.gates import gates
from .sections.mistakes import mistakes
from .sections.monitoring import monitoring
from .sections.residuals import residuals
from .sections.run import lineage, nodes, reproduce
from .sections.slices import slices
from .sections.training import importance, training
from .sections.tuning import tuning
from .sections.variants import confusion, variants
from .sections.verdict import cards, verdict

__all__ = ["build"]

_SECTIONS = (
    ("gates", "Gates", gates),
    ("variants", "Variants", variants),
    ("confusion", "Confusion matrices", confusion),
    ("classes", "Classes", classes),
    ("curves", "Curves", curves),
    ("thresholds", "Thresholds", thresholds),
    ("residuals", "Residuals", residuals),
    ("slices", "Slices", slices),
    ("mistakes", "Mistakes", mistakes),
    ("importance", "Importance", importance),
    ("training", "Training", training),
    ("monitoring", "Monitoring", monitoring),
    ("tuning", "Tuning", tuning),
    ("crossval", "Cross-validation", crossval),
    ("data", "Data", data),
    ("nodes", "Nodes", nodes),
    ("lineage", "Lineage", lineage),
    ("reproduce", "Reproduce", reproduce),
)


def build(summary: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """Write the report of one run.

    Args:
        summary: summary.json (docs/summary.schema.json).
        evidence: What else is known of the run, by key. As docs/artifacts.md describes them: `ingest`,
            `anomalies`, `skew`, `evaluation`, `infra`, `mistakes`, `history`, `monitoring`, `lr_finder`,
            `trials`, `best` and `crossval`. Also `statistics`
            (`headrace.pipeline.report.statistics.compact`), `graph` (`[{id, title, inputs: [ids]}]`),
            `lineage` (`[{node, artifact, type, uri, id}]`), `command`, `versions` and `config_yaml`.
            Any may be missing: its section is then left out.

    Returns:
        A whole HTML document that asks nothing of the network.
    """
    facts = collect(summary, evidence)
    sections = [
        (key, title, content) for key, title, make in _SECTIONS if (content := make(facts)) is not None
    ]
    return (
        _environment()
        .get_template("report.html")
        .render(
            name=_name(facts),
            run_id=str(summary.get("run_id") or ""),
            task=facts.task,
            verdict=verdict(facts),
            cards=cards(facts),
            sections=sections,
        )
    )


def _name(facts: Facts) -> str:
    config = facts.summary.get("config")
    name = config.get("name") if isinstance(config, Mapping) else None
    return str(name or "run")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("headrace.pipeline.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
