"""Who may call the servers, and whom they may call."""

from urllib.parse import urlsplit

from .objects import Object, metadata
from .plan import GRPC_PORT, REST_PORT, Plan
from .yaml_text import Document, Path

__all__ = ["network_policy"]


def network_policy(plan: Plan) -> Document:
    """Return the policy of the pods."""
    ports = [{"protocol": "TCP", "port": GRPC_PORT}, {"protocol": "TCP", "port": REST_PORT}]
    ingress: list[Object] = [
        {"from": _callers(plan), "ports": ports},
        {
            "from": [{"namespaceSelector": _by_name(plan.config.monitoring.namespace)}],
            "ports": [{"protocol": "TCP", "port": REST_PORT}],
        },
    ]
    spec: Object = {
        "podSelector": {"matchLabels": dict(plan.selector)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": _egress(plan),
    }
    data = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(plan, plan.name),
        "spec": spec,
    }
    comments: dict[Path, str] = {
        ("spec", "ingress", 0): "Whoever reaches gRPC can also make the server load other models "
        "(HandleReloadConfigRequest): deploy.access.namespaces says who may, beside this namespace.",
        ("spec", "ingress", 1): "Prometheus.",
        ("spec", "egress"): "The bucket, and nothing else." if plan.bucket else "The server calls nobody.",
    }
    return data, comments


def _callers(plan: Plan) -> list[Object]:
    access, service = plan.config.access, plan.config.service
    callers: list[Object] = [{"podSelector": {}}]
    if "*" in access.namespaces:
        callers = [{"namespaceSelector": {}}]
    else:
        callers += [{"namespaceSelector": _by_name(name)} for name in access.namespaces]
    if service.type != "ClusterIP":
        ranges = service.source_ranges or ("0.0.0.0/0", "::/0")
        callers += [{"ipBlock": {"cidr": cidr}} for cidr in ranges]
    return callers


def _egress(plan: Plan) -> list[Object]:
    models = plan.bucket
    if models is None:
        return []
    port = 443
    if models.endpoint:
        parts = urlsplit(models.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    rules: list[Object] = [
        {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
        {"ports": [{"protocol": "TCP", "port": port}]},
    ]
    if models.secret is None:  # the cloud's metadata services, which give the pod its identity
        for address, number in (("169.254.169.254", 80), ("169.254.169.252", 988), ("169.254.170.23", 80)):
            rules.append(
                {
                    "to": [{"ipBlock": {"cidr": f"{address}/32"}}],
                    "ports": [{"protocol": "TCP", "port": number}],
                }
            )
    return rules


def _by_name(name: str) -> Object:
    return {"matchLabels": {"kubernetes.io/metadata.name": name}}
