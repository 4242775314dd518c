"""What must hold of deploy/compose.yaml and deploy/kubernetes: that they fit the server and each other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from gateway.config import Settings
from tests.deploy.proxied import DEPLOY
from tests.deploy.test_image import the

MARGIN = 5.0
"""Seconds between the end of the server's own limits and the signal that cannot be caught."""

CONNECTIONS_OF_A_NODE = Settings().engine_pool + Settings().engine_writers + 2
"""To Postgres, at most: two more for hints and for heartbeats."""

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
NODES = {name: service for name, service in SERVICES.items() if name.startswith("node-")}

KUBERNETES = [
    document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]


def kind(name: str) -> dict[str, Any]:
    (found,) = [document for document in KUBERNETES if document["kind"] == name]
    return dict(found)


POD: dict[str, Any] = kind("Deployment")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def settings_of(environment: dict[str, str]) -> Settings:
    """Return the settings of a container; what is not said comes from the image, or is a default."""
    named = {k.removeprefix("TIDEGATE_").lower(): v for k, v in environment.items()}
    return Settings.model_validate({k: v for k, v in named.items() if k in Settings.model_fields})


# --- compose -----------------------------------------------------------------------------------


def test_nginx_knows_the_nodes_of_compose_and_no_others() -> None:
    upstream = re.findall(
        r"^\s*server (\S+?):(\d+) ", (DEPLOY / "nginx.conf").read_text(), re.MULTILINE
    )
    assert {name for name, _ in upstream} == set(NODES)
    assert {port for _, port in upstream} == {the("EXPOSE").words}
    nginx = SERVICES["nginx"]
    assert set(nginx["depends_on"]) == set(NODES), "it does not start without their addresses"
    assert nginx["volumes"] == ["./nginx.conf:/etc/nginx/nginx.conf:ro"]
    assert all(port.startswith("127.0.0.1:") for port in nginx["ports"])


def test_no_password_is_written_down() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    said = re.findall(r"^\s*\w*PASSWORD: (.*)$", text, re.MULTILINE)
    assert len(said) == 2
    assert all(re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}", each) for each in said)
    url = Settings(engine=SERVICES["node-a"]["environment"]["TIDEGATE_ENGINE"]).engine
    database = SERVICES["postgres"]["environment"]
    assert url == f"postgresql://{database['POSTGRES_USER']}@postgres/{database['POSTGRES_DB']}"
    assert ".env" in (DEPLOY / ".gitignore").read_text().splitlines()


def test_nodes_start_on_a_database_that_is_there_and_migrated() -> None:
    for node in NODES.values():
        assert node["depends_on"]["postgres"]["condition"] == "service_healthy"
        assert node["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    migrate = SERVICES["migrate"]
    assert migrate["command"] == ["migrate"]
    assert migrate["environment"] == SERVICES["node-a"]["environment"]
    postgres = SERVICES["postgres"]
    assert postgres["image"].startswith("postgres:18")
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql"]
    assert "--host=127.0.0.1" in postgres["healthcheck"]["test"]


@pytest.mark.parametrize("name", NODES)
def test_a_node_of_compose_has_the_time_to_stop_and_few_rights(name: str) -> None:
    node = NODES[name]
    settings = Settings()  # it changes none of these
    assert not any("DRAIN" in each or "SHUTDOWN" in each for each in node["environment"])
    grace = float(node["stop_grace_period"].removesuffix("s"))
    assert grace >= settings.drain_delay_s + settings.shutdown_timeout_s + MARGIN
    assert node["ulimits"]["nofile"] > settings.max_connections
    assert node["read_only"] is True
    assert node["cap_drop"] == ["ALL"]
    assert node["init"] is True, "the second SIGTERM has to reach a process that is not number 1"


# --- Kubernetes --------------------------------------------------------------------------------


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def test_a_pod_gets_the_time_that_the_server_may_take_to_stop() -> None:
    settings = settings_of(environment_of(CONTAINER))
    assert settings.drain_delay_s > 0, "those who route here learn of it with a delay"
    needed = settings.drain_delay_s + settings.shutdown_timeout_s + MARGIN
    assert POD["terminationGracePeriodSeconds"] == needed
    readiness = CONTAINER["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert noticed <= settings.drain_delay_s
    assert "lifecycle" not in CONTAINER


def test_probes_ask_what_the_server_answers() -> None:
    paths = {
        kind: CONTAINER[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    (port,) = CONTAINER["ports"]
    assert port == {"name": "http", "containerPort": int(the("EXPOSE").words)}
    startup = CONTAINER["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > 2 * Settings().engine_wait_s


def test_no_service_of_the_cluster_becomes_a_setting() -> None:
    """Kubernetes would tell pods of a Service `tidegate` as TIDEGATE_PORT=tcp://…"""
    assert kind("Service")["metadata"]["name"] == "tidegate"
    job = kind("Job")["spec"]["template"]["spec"]
    assert POD["enableServiceLinks"] is False
    assert job["enableServiceLinks"] is False


@pytest.mark.parametrize("owner", ["Deployment", "Job"])
def test_pods_have_no_rights_and_run_as_whom_the_image_makes(owner: str) -> None:
    pod = kind(owner)["spec"]["template"]["spec"]
    user, group = map(int, the("USER").words.split(":"))
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    (url,) = [each for each in container["env"] if each["name"] == "TIDEGATE_ENGINE"]
    assert url["valueFrom"]["secretKeyRef"] == {"name": "tidegate-database", "key": "url"}


def test_everything_means_the_same_pods() -> None:
    deployment = kind("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert kind("Service")["spec"]["selector"] == labels
    assert kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    job = kind("Job")["spec"]["template"]["metadata"]["labels"]
    assert job != labels, "the Service must not send requests to a migration"
    (rule,) = kind("Ingress")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "tidegate", "port": {"name": "http"}}
    assert kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "tidegate"
    assert kind("HorizontalPodAutoscaler")["spec"]["minReplicas"] == deployment["replicas"]


def test_as_many_pods_as_there_may_be_fit_into_the_connections_of_a_postgres() -> None:
    pods = kind("HorizontalPodAutoscaler")["spec"]["maxReplicas"] + 1  # one more during an update
    assert pods * CONNECTIONS_OF_A_NODE <= 100 - 3, "max_connections, less superusers'"


def test_the_ingress_says_what_nginx_conf_says() -> None:
    settings = Settings()
    notes: dict[str, str] = kind("Ingress")["metadata"]["annotations"]
    text = (DEPLOY / "nginx.conf").read_text()
    (size,) = re.findall(r"client_max_body_size (\w+);", text)
    assert {v for k, v in notes.items() if "body-size" in k} == {size}
    longest = max(map(int, re.findall(r"proxy_read_timeout (\d+)s;", text)))
    silences = {v.removesuffix("s") for k, v in notes.items() if "read-timeout" in k}
    assert silences == {str(longest)}
    assert longest > max(settings.keepalive_s, settings.ws_heartbeat_s)
    assert {v for k, v in notes.items() if "buffering" in k} == {"off", "False"}
    assert notes["nginx.org/websocket-services"] == "tidegate"
    assert "non_idempotent" not in json.dumps(notes), "it would hold for all paths"
    assert all(isinstance(value, str) for value in notes.values())
