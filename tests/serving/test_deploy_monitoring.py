"""Rules and panels: PromQL that parses, on series that the server exports."""

import json
from collections.abc import Iterator

import promql_parser
import pytest
import yaml

from headrace.serving.deploy.metrics import METRICS, series
from headrace.serving.server.errors import Code
from headrace.serving.server.events import Event
from headrace.serving.server.load_counts import LoadCounts
from headrace.serving.server.metrics import Metrics
from headrace.serving.server.model_spec import ModelSpec
from tests.serving.deployments import DEPLOYMENTS, rendered

SECTIONS = pytest.mark.parametrize("section", DEPLOYMENTS.values(), ids=DEPLOYMENTS)


def selectors(query: str) -> Iterator[promql_parser.VectorSelector]:
    """Yield every series that a query reads."""
    waiting = [promql_parser.parse(query)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, promql_parser.VectorSelector):
            yield node
        elif isinstance(node, promql_parser.MatrixSelector):
            yield node.vector_selector
        elif isinstance(node, promql_parser.BinaryExpr):
            waiting += [node.lhs, node.rhs]
        elif isinstance(node, promql_parser.Call):
            waiting += list(node.args)
        elif not isinstance(node, promql_parser.NumberLiteral):
            waiting.append(node.expr)


def rules(section) -> list[dict[str, str]]:
    (group,) = yaml.safe_load(rendered(section, "compose")["prometheus-rules.yaml"])["groups"]
    return list(group["rules"])


def queries(section) -> dict[str, str]:
    """Return every query of rules and panels by a name."""
    found = {rule["alert"]: rule["expr"] for rule in rules(section)}
    board = json.loads(rendered(section, "compose")["grafana-dashboard.json"])
    for panel in board["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "1m")
            found[f"{panel['title']} {target['refId']}"] = query
    return found


@SECTIONS
def test_every_query_names_series_and_labels_that_are_exported(section):
    exported = series()
    seen = set()
    for name, query in queries(section).items():
        for selector in selectors(query):
            assert selector.name in exported, name
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert labels <= set(exported[selector.name]), name
            seen.add(selector.name)
    assert len(seen) >= 5


@SECTIONS
def test_queries_of_a_model_leave_other_models_out(section):
    for name, query in queries(section).items():
        for selector in selectors(query):
            matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            if "model_name" in series()[selector.name]:
                assert matchers["model_name"] == "flights", name
            if "model_path" in series()[selector.name]:
                assert matchers["model_path"] == "/models/flights/.+", name


def test_a_query_that_does_not_parse_is_seen():
    with pytest.raises(ValueError, match=r"unexpected|invalid|expected"):
        promql_parser.parse("sum(rate(:tensorflow:serving:request_count{model_name=}[5m]))")


def test_histograms_are_read_by_bucket():
    for query in queries({}).values():
        for call in [node for node in [promql_parser.parse(query)] if isinstance(node, promql_parser.Call)]:
            if call.func.name == "histogram_quantile":
                assert all(selector.name.endswith("_bucket") for selector in selectors(query))


def test_our_server_exports_what_the_table_says():
    metrics = Metrics()
    metrics(Event("GRPC", "Predict", ModelSpec("flights", 1), Code.OK, "", 0.001))
    loads = LoadCounts()
    loads.add("/models/flights/1", 0.5)
    page = metrics.page((), loads)
    kinds = dict(line.split()[2:4] for line in page.splitlines() if line.startswith("# TYPE :tensorflow:"))
    assert kinds == {name: metric.kind for name, metric in METRICS.items() if metric.embedded}
    for line in page.splitlines():
        if line.startswith(":tensorflow:"):
            name, _, rest = line.partition("{")
            labels = {part.partition("=")[0] for part in rest.rpartition("}")[0].split(",")}
            assert labels == set(series()[name])


@SECTIONS
def test_alerts_say_what_is_wrong(section):
    found = rules(section)
    names = [rule["alert"] for rule in found]
    assert len(set(names)) == len(names) >= 5
    assert ("ServingQueueGrows" in names) == (section.get("batching", {}).get("enabled") is not False)
    for rule in found:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["labels"]["model"] == "flights"
        assert set(rule["annotations"]) == {"summary", "description"}


def test_bounds_come_from_the_config():
    found = {
        rule["alert"]: rule["expr"] for rule in rules({"monitoring": {"p99_ms": 50, "error_percent": 0.1}})
    }
    assert found["ServingErrors"].endswith(" > 0.001")
    assert found["ServingSlow"].endswith(" > 50000")
    assert found["ServingQueueGrows"].endswith(" > 25000")


@SECTIONS
def test_the_dashboard_is_whole(section):
    board = json.loads(rendered(section, "kubernetes")["monitoring/grafana-dashboard.json"])
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(board)
    assert len(board["uid"]) <= 40
    (variable,) = board["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    places = set()
    for panel in board["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
        assert panel["targets"]
        where = panel["gridPos"]
        assert where["x"] + where["w"] <= 24
        places.add((where["x"], where["y"]))
    assert len(places) == len(board["panels"]) == len({panel["id"] for panel in board["panels"]})


def test_the_operator_gets_the_same_rules_and_scrapes_the_server_s_page():
    texts = rendered(DEPLOYMENTS["s3"], "kubernetes")
    monitor, objects, board = yaml.safe_load_all(texts["70-monitoring.yaml"])
    assert objects["spec"] == yaml.safe_load(texts["monitoring/prometheus-rules.yaml"])
    assert monitor["spec"]["podMetricsEndpoints"][0]["path"] == "/monitoring/prometheus/metrics"
    assert json.loads(board["data"]["flights.json"]) == json.loads(texts["monitoring/grafana-dashboard.json"])
    assert "70-monitoring.yaml" not in rendered({}, "kubernetes")
