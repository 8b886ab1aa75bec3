"""What has to be true of the manifests beyond their schemas.

manifests.py OPERATOR [EXAMPLE]: writes the operator's sidecar as a pod to OPERATOR, for a validator; EXAMPLE is
deploy/kubernetes/example as kustomize builds it.
"""

import json
import sys
from pathlib import Path

import yaml

deploy = Path(__file__).parents[2] / "deploy"


def load(path):
    return yaml.safe_load((deploy / path).read_text())


def seconds(text):
    assert text.endswith("s"), text
    return int(text[:-1])


# Seconds for goodbyes, once connections are told to go.
GOODBYES = 5


def compose():
    shared = load("compose.yaml")["services"]
    assert shared["gateway"]["network_mode"] == "service:seqgate"
    assert "loopback" in shared["gateway"]["command"]
    separate = load("compose.separate.yaml")
    behind = separate["services"]["seqgate"]["networks"]["behind"]["ipv4_address"]
    settings = json.loads((deploy / "gateway/openclaw.separate.json").read_text())
    assert settings["gateway"]["trustedProxies"] == [behind]
    assert separate["networks"]["behind"]["internal"] is True
    for services in (shared, separate["services"]):
        assert "ports" not in services["gateway"], "only seqgate is published"
        assert services["seqgate"]["ports"] == ["${PUBLISH:-127.0.0.1:18900}:18900"]
        assert seconds(services["seqgate"]["stop_grace_period"]) >= 25 + GOODBYES


def sidecar(container):
    env = {item["name"]: item["value"] for item in container["env"]}
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert sleep + seconds(env["SEQGATE_DRAIN_TIMEOUT"]) + GOODBYES < 30, "the default grace period"
    paths = {kind: container[kind]["httpGet"]["path"] for kind in container if kind.endswith("Probe")}
    assert paths["livenessProbe"] == "/livez" and paths["readinessProbe"] == "/readyz"
    # The gateway waits for the startup of a native sidecar: that must not wait for the gateway.
    assert paths.get("startupProbe", "/livez") == "/livez"
    assert container["securityContext"]["runAsUser"] == 65532


def example(documents):
    by_kind = {document["kind"]: document for document in documents}
    pod = by_kind["StatefulSet"]["spec"]["template"]
    native = [c for c in pod["spec"]["initContainers"] if c.get("restartPolicy") == "Always"]
    assert [c["name"] for c in native] == ["seqgate"]
    sidecar(native[0])
    ports = {port["name"]: port["containerPort"] for port in native[0]["ports"]}
    # By number: Services before Kubernetes 1.32 and some network policies do not find the names of a native sidecar.
    assert by_kind["Service"]["spec"]["ports"][0]["targetPort"] == ports["seqgate"]
    endpoints = by_kind["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert {endpoint["port"] for endpoint in endpoints} <= ports.keys()
    rules = by_kind["NetworkPolicy"]["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == set(ports.values())
    for kind in ("PodMonitor", "NetworkPolicy"):
        spec = by_kind[kind]["spec"]
        labels = (spec.get("selector") or spec["podSelector"])["matchLabels"]
        assert labels.items() <= pod["metadata"]["labels"].items()


compose()
instance = load("kubernetes/operator/openclawinstance.yaml")
(container,) = instance["spec"]["sidecars"]
sidecar(container)
assert instance["spec"]["networking"]["service"]["ports"][0]["targetPort"] == container["ports"][0]["containerPort"]
pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}, "spec": {"containers": [container]}}
Path(sys.argv[1]).write_text(yaml.safe_dump(pod))
if len(sys.argv) > 2:
    example(list(yaml.safe_load_all(Path(sys.argv[2]).read_text())))
