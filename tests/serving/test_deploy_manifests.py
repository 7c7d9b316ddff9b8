"""Rendered manifests: valid by the published schemas, in agreement with each other, and safe."""

import copy
import os
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from headrace.serving.deploy.config import DeployConfig
from headrace.serving.deploy.plan import make_plan
from headrace.serving.deploy.render import TARGETS, render
from headrace.serving.server.flags import parse_flags
from tests.serving.deployments import (
    DEPLOYMENTS,
    FOLDER,
    compose_errors,
    container,
    documents,
    kserve_errors,
    objects,
    plan_of,
    rendered,
)

SECTIONS = pytest.mark.parametrize("section", DEPLOYMENTS.values(), ids=DEPLOYMENTS)
NOT_KUBERNETES = ("InferenceService", "PodMonitor", "PrometheusRule")


@SECTIONS
@pytest.mark.parametrize(
    ("target", "version"), [("kubernetes", "1.30"), ("kubernetes", "1.37"), ("kserve", "1.37")]
)
def test_every_object_is_valid_kubernetes(section, target, version):
    texts = rendered(section, target)
    found = [one for one in documents(texts) if one["kind"] not in NOT_KUBERNETES]
    assert found
    for one in found:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_validator_sees_a_wrong_key():
    (one,) = documents({"a.yaml": rendered({}, "kubernetes")["30-deployment.yaml"]})
    one["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePolicy"):
        kubernetes_validate.validate(one, "1.33", strict=True)


@SECTIONS
def test_the_inference_service_is_valid(section):
    one = objects(rendered(section, "kserve"))["InferenceService"]
    assert kserve_errors(one) == []


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        (("predictor",), "minReplica", 1),
        (("predictor",), "scaleMetric", "qps"),
        (("predictor", "model"), "storageUrl", "s3://x"),
        (("predictor", "model", "startupProbe"), "failureThreshhold", 3),
        (("predictor", "securityContext"), "runAsUser", "root"),
    ],
)
def test_the_schema_of_kserve_sees_a_wrong_key(place, key, value):
    one = copy.deepcopy(objects(rendered({}, "kserve"))["InferenceService"])
    here = one["spec"]
    for part in place:
        here = here[part]
    here[key] = value
    assert len(kserve_errors(one)) == 1


@SECTIONS
def test_compose_is_valid(section):
    document = yaml.safe_load(rendered(section, "compose")["compose.yaml"])
    assert compose_errors(document) == []
    document["services"]["serving"]["cap_drops"] = ["ALL"]
    assert "cap_drops" in compose_errors(document)[0]


@SECTIONS
def test_objects_find_each_other(section):
    found = objects(rendered(section, "kubernetes"))
    pod = found["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    selectors = [
        found["Service"]["spec"]["selector"],
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in pod["spec"]["topologySpreadConstraints"]),
    ]
    assert all(one.items() <= labels for one in selectors)
    assert f"ServiceAccount/{pod['spec']['serviceAccountName']}" in found
    models = section.get("models", {})
    for volume in pod["spec"]["volumes"]:
        if "configMap" in volume:
            assert f"ConfigMap/{volume['configMap']['name']}" in found
        if "persistentVolumeClaim" in volume and "claim" not in models:
            assert f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}" in found
    mounted = {volume["name"] for volume in pod["spec"]["volumes"]}
    for one in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
        assert {mount["name"] for mount in one["volumeMounts"]} <= mounted
    assert box_resources(pod["spec"]) == {True}
    ports = {port["name"] for port in container(rendered(section, "kubernetes"))["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} == ports
    spaces = {one["metadata"].get("namespace") for one in found.values() if one["kind"] != "Namespace"}
    assert spaces == {section.get("namespace", "serving")}


def box_resources(pod: dict[str, Any]) -> set[bool]:
    """Return whether requests are the limits, of every container: the class Guaranteed."""
    boxes = [*pod["containers"], *pod.get("initContainers", [])]
    return {box["resources"]["requests"] == box["resources"]["limits"] for box in boxes}


@SECTIONS
@pytest.mark.parametrize("target", ["kubernetes", "kserve"])
def test_deleting_a_deployment_deletes_neither_versions_nor_other_models(section, target):
    texts = rendered(section, target)
    top = {name: text for name, text in texts.items() if "/" not in name}
    assert all(name.endswith(".yaml") for name in top)  # kubectl reads them all
    assert {"Namespace", "PersistentVolumeClaim", "Pod"}.isdisjoint(objects(top))
    lasting = objects({name: text for name, text in texts.items() if name.startswith("once/")})
    assert ("Namespace" in lasting) == (section.get("namespace", "serving") is not None)
    models = section.get("models", {"kind": "volume"})
    assert ("PersistentVolumeClaim" in lasting) == (models["kind"] == "volume" and "claim" not in models)
    uploading = models["kind"] == "volume" and models.get("access_mode") != "ReadOnlyMany"
    assert ("by-hand/upload.yaml" in texts) == uploading


@SECTIONS
def test_pods_meet_the_restricted_standard(section):
    """By the list of the Pod Security Standards, level restricted."""
    for one in documents(rendered(section, "kubernetes")):
        spec = one["spec"]["template"]["spec"] if one["kind"] == "Deployment" else one.get("spec", {})
        if one["kind"] not in ("Deployment", "Pod"):
            continue
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] != 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        kinds = {key for volume in spec["volumes"] for key in volume} - {"name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
        for box in [*spec["containers"], *spec.get("initContainers", [])]:
            assert box["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(box["resources"]) == {"requests", "limits"}
            assert ":" in box["image"]
            assert not box["image"].endswith(":latest")


@SECTIONS
@pytest.mark.parametrize("target", TARGETS)
def test_our_server_takes_the_command_line(section, target):
    texts = rendered(section, target)
    if target == "compose":
        arguments = yaml.safe_load(texts["compose.yaml"])["services"]["serving"]["command"]
    elif target == "kserve":
        arguments = objects(texts)["InferenceService"]["spec"]["predictor"]["model"]["args"]
    else:
        arguments = container(texts)["args"]
    flags = parse_flags(arguments)
    assert flags.rest == ()
    cores = DeployConfig.model_validate(section).resources.threads
    assert flags["tensorflow_intra_op_parallelism"] == flags["tensorflow_inter_op_parallelism"] == cores
    assert flags["enable_batching"] is (section.get("batching", {}).get("enabled") is not False)


@SECTIONS
def test_a_pod_is_drained_before_it_is_killed(section):
    pod = objects(rendered(section, "kubernetes"))["Deployment"]["spec"]["template"]["spec"]
    (box,) = pod["containers"]
    drain_s = box["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain_s < pod["terminationGracePeriodSeconds"]
    text = parse_flags(box["args"])["grpc_channel_arguments"]
    ages = dict(part.split("=") for part in text.split(","))
    lives_ms = int(ages["grpc.max_connection_age_ms"]) * 1.1 + int(ages["grpc.max_connection_age_grace_ms"])
    assert lives_ms <= drain_s * 1000  # gRPC adds up to a tenth


def test_one_replica_can_be_drained_and_is_not_scaled():
    found = objects(rendered(DEPLOYMENTS["single"], "kubernetes"))
    assert "HorizontalPodAutoscaler" not in found
    assert found["Deployment"]["spec"]["replicas"] == 1
    assert found["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert "minAvailable" not in found["PodDisruptionBudget"]["spec"]
    (near,) = found["Pod"]["spec"]["affinity"]["podAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert near["labelSelector"]["matchLabels"] == found["Service"]["spec"]["selector"]


def test_the_autoscaler_alone_sets_replicas():
    found = objects(rendered({"replicas": {"min": 2, "max": 9, "cpu_percent": 60}}, "kubernetes"))
    assert "replicas" not in found["Deployment"]["spec"]
    scaler = found["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 9)
    assert scaler["metrics"][0]["containerResource"]["container"] == "tensorflow-serving"
    assert scaler["metrics"][0]["containerResource"]["target"]["averageUtilization"] == 60
    target = scaler["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", found["Deployment"]["metadata"]["name"])


def test_the_start_is_waited_for():
    box = container(rendered({"start_s": 601}, "kubernetes"))
    probe = box["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 601
    assert probe["httpGet"] == {"path": "/v1/models/flights", "port": "rest"}
    assert "httpGet" not in box["livenessProbe"]


def test_a_change_of_the_server_s_files_restarts_pods_and_that_of_models_config_does_not():
    def checksum(section: dict[str, Any]) -> str:
        template = objects(rendered(section, "kubernetes"))["Deployment"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) == checksum({"versions": 3})
    assert checksum({}) != checksum({"batching": {"max_rows": 8}})


@pytest.mark.parametrize(
    ("section", "callers"),
    [
        ({}, [{"podSelector": {}}]),
        ({"access": {"namespaces": ["*"]}}, [{"namespaceSelector": {}}]),
        (
            {
                "access": {"namespaces": ["web"]},
                "service": {"type": "LoadBalancer", "source_ranges": ["10.0.0.0/8"]},
            },
            [
                {"podSelector": {}},
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "web"}}},
                {"ipBlock": {"cidr": "10.0.0.0/8"}},
            ],
        ),
        (
            {"service": {"type": "NodePort"}},
            [{"podSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}],
        ),
    ],
)
def test_callers_are_let_in_by_name(section, callers):
    policy = objects(rendered(section, "kubernetes"))["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"][0]["from"] == callers
    assert policy["egress"] == []
    scraper = policy["ingress"][1]
    assert scraper["ports"] == [{"protocol": "TCP", "port": 8501}]


def test_a_bucket_is_all_that_a_server_calls():
    policy = objects(rendered(DEPLOYMENTS["s3"], "kubernetes"))["NetworkPolicy"]["spec"]
    ports = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 9000]


def test_the_bucket_is_copied_with_its_credentials():
    pod = objects(rendered(DEPLOYMENTS["s3"], "kubernetes"))["Deployment"]["spec"]["template"]["spec"]
    (box,) = pod["initContainers"]
    environment = {one["name"]: one["value"] for one in box["env"]}
    assert box["restartPolicy"] == "Always"
    assert box["envFrom"] == [{"secretRef": {"name": "minio"}}]
    assert environment["SOURCE"] == "models:models-of-air/serving/flights"
    assert environment["RCLONE_CONFIG_MODELS_ENDPOINT"] == "http://minio.minio:9000"
    assert environment["KEEP"] == "3"
    pod = objects(rendered(DEPLOYMENTS["gcs_with_key"], "kubernetes"))["Deployment"]["spec"]["template"][
        "spec"
    ]
    environment = {one["name"]: one["value"] for one in pod["initContainers"][0]["env"]}
    assert environment["RCLONE_CONFIG_MODELS_SERVICE_ACCOUNT_FILE"] == "/secrets/key.json"
    assert {"name": "secrets", "secret": {"secretName": "key"}} in pod["volumes"]


def test_kserve_takes_the_model_from_where_it_is():
    for section, uri in (
        ("defaults", "pvc://flights-models/flights"),
        ("claimed", "pvc://models.shared/a/b/flights"),
        ("s3", "s3://models-of-air/serving/flights"),
        ("gcs", "gs://models-of-air/flights"),
    ):
        model = objects(rendered(DEPLOYMENTS[section], "kserve"))["InferenceService"]["spec"]["predictor"][
            "model"
        ]
        assert model["storageUri"] == uri
    assert "runtimeVersion" not in model or model["runtimeVersion"] == "2.20.0"


def test_kserve_scales_by_cpu_in_the_one_mode_that_can():
    """From inference_service_validation.go: Standard and hpa, or `scaleMetric: cpu` is refused."""
    one = objects(rendered({}, "kserve"))["InferenceService"]
    annotations = one["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "Standard"
    assert annotations["serving.kserve.io/autoscalerClass"] == "hpa"
    assert one["spec"]["predictor"]["scaleMetric"] == "cpu"


def test_compose_reads_a_dollar_as_it_was_given():
    section = {"arguments": ["--grpc_socket_path=/tmp/$A"]}
    command = yaml.safe_load(rendered(section, "compose")["compose.yaml"])["services"]["serving"]["command"]
    assert command[-1] == "--grpc_socket_path=/tmp/$$A"
    assert container(rendered(section, "kubernetes"))["args"][-1] == "--grpc_socket_path=/tmp/$A"


def test_a_model_s_name_is_kept_in_requests_and_made_fit_for_kubernetes():
    texts = rendered({}, "kserve", model="Late_Flights.v2")
    one = objects(texts)["InferenceService"]
    assert one["metadata"]["name"] == "late-flights-v2"
    assert one["spec"]["predictor"]["model"]["args"][0] == "--model_name=Late_Flights.v2"
    assert plan_of({}, "7_days").name == "model-7-days"
    assert len(plan_of({}, "x" * 63).name) == 50


def test_rendering_is_the_same_every_time_and_with_every_version(tmp_path):
    push = tmp_path / "push"
    texts = [
        render(make_plan(DeployConfig(), "flights", push), target, tmp_path / "out") for target in TARGETS
    ]
    (push / "flights" / "1").mkdir(parents=True)
    plan = make_plan(DeployConfig(), "flights", push)
    assert plan.versions == (1,)
    assert [render(plan, target, tmp_path / "out") for target in TARGETS] == texts


@SECTIONS
@pytest.mark.parametrize("target", TARGETS)
def test_every_file_says_where_it_comes_from_and_holds_no_empty_value(section, target):
    for name, text in rendered(section, target).items():
        assert text.endswith("\n"), name
        if name.endswith(".yaml"):
            assert text.startswith("# Made by `headrace deploy render flights.yaml`"), name
            assert all(None not in values(one) for one in yaml.safe_load_all(text)), name


def values(data: Any) -> list[Any]:
    """Return every value that holds no others."""
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else None
    return [data] if inner is None else [value for one in inner for value in values(one)]


def test_compose_mounts_the_push_folder_and_its_own_files():
    texts = rendered({}, "compose")
    serving = yaml.safe_load(texts["compose.yaml"])["services"]["serving"]
    volumes = {one["target"]: one["source"] for one in serving["volumes"]}
    assert volumes["/models"] == "${MODELS:-../../push/serving}"
    assert os.path.normpath(FOLDER / "compose" / "../../push/serving") == "/somewhere/push/serving"
    assert all(one["read_only"] for one in serving["volumes"])
    services = yaml.safe_load(texts["compose.yaml"])["services"].values()
    sources = [one["source"] for service in services for one in service["volumes"]]
    for source in sources:
        if source.startswith("./"):
            assert any(Path(name).is_relative_to(source[2:]) for name in texts), source
    assert serving["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
