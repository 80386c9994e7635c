"""cluster.yaml against Ray's own validator and scheduler, jobs/rayjob.yaml against the CRD's documented fields."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from scclip.jobs.submission.request import parse_words
from scclip.pipeline.cluster.spot import prefer_available

ROOT = Path(__file__).parents[2]

# Fields and types of ray.io/v1, from KubeRay's API reference: https://ray-project.github.io/kuberay/reference/api/
# and ray-operator/apis/ray/v1/{rayjob,raycluster}_types.go; authOptions since KubeRay 1.5.1.
RAY_JOB_SPEC: dict[str, type] = {
    "activeDeadlineSeconds": int, "backoffLimit": int, "rayClusterSpec": dict, "submitterPodTemplate": dict,
    "metadata": dict, "clusterSelector": dict, "submitterConfig": dict, "managedBy": str, "deletionStrategy": dict,
    "entrypoint": str, "runtimeEnvYAML": str, "jobId": str, "submissionMode": str, "entrypointResources": str,
    "entrypointNumCpus": float, "entrypointNumGpus": float, "ttlSecondsAfterFinished": int,
    "shutdownAfterJobFinishes": bool, "suspend": bool,
}  # fmt: skip
SUBMITTER_CONFIG: dict[str, type] = {"backoffLimit": int}
RAY_CLUSTER_SPEC: dict[str, type] = {
    "authOptions": dict, "suspend": bool, "managedBy": str, "autoscalerOptions": dict, "headServiceAnnotations": dict,
    "enableInTreeAutoscaling": bool, "gcsFaultToleranceOptions": dict, "headGroupSpec": dict, "rayVersion": str,
    "workerGroupSpecs": list,
}  # fmt: skip
AUTH_OPTIONS: dict[str, type] = {"mode": str}
AUTOSCALER_OPTIONS: dict[str, type] = {
    "resources": dict, "image": str, "imagePullPolicy": str, "securityContext": dict, "idleTimeoutSeconds": int,
    "upscalingMode": str, "version": str, "env": list, "envFrom": list, "volumeMounts": list,
}  # fmt: skip
HEAD_GROUP: dict[str, type] = {
    "template": dict, "headService": dict, "enableIngress": bool, "rayStartParams": dict, "serviceType": str,
}  # fmt: skip
WORKER_GROUP: dict[str, type] = {
    "suspend": bool, "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int,
    "idleTimeoutSeconds": int, "rayStartParams": dict, "template": dict, "scaleStrategy": dict, "numOfHosts": int,
}  # fmt: skip
# Kubernetes' core/v1, as far as it is used: PodSpec, Container, ResourceRequirements, ContainerPort, Toleration
POD_SPEC: dict[str, type] = {"serviceAccountName": str, "containers": list, "tolerations": list, "affinity": dict}
CONTAINER: dict[str, type] = {"name": str, "image": str, "resources": dict, "ports": list}


def check(found: dict[str, Any], documented: dict[str, type], place: str) -> None:
    for name, value in found.items():
        assert name in documented, f"{place}.{name} is no documented field"
        assert isinstance(value, documented[name]), f"{place}.{name} must be {documented[name].__name__}"


def check_pod(template: dict[str, Any], place: str) -> None:
    assert set(template) == {"spec"}
    check(template["spec"], POD_SPEC, place)
    for container in template["spec"]["containers"]:
        check(container, CONTAINER, f"{place}.containers")
        resources = container["resources"]
        assert set(resources) == {"requests", "limits"} and resources["requests"] == resources["limits"]
        assert all(isinstance(amount, str) for amount in resources["limits"].values())


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "jobs" / "rayjob.yaml").read_text()))


def test_every_field_of_the_rayjob_is_documented(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"}
    spec = job["spec"]
    check(spec, RAY_JOB_SPEC, "spec")
    check(spec["submitterConfig"], SUBMITTER_CONFIG, "submitterConfig")
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    cluster = spec["rayClusterSpec"]
    check(cluster, RAY_CLUSTER_SPEC, "rayClusterSpec")
    check(cluster["authOptions"], AUTH_OPTIONS, "authOptions")
    check(cluster["autoscalerOptions"], AUTOSCALER_OPTIONS, "autoscalerOptions")
    assert cluster["authOptions"]["mode"] in ("disabled", "token")
    assert cluster["autoscalerOptions"]["upscalingMode"] in ("Default", "Aggressive", "Conservative")
    groups = [(cluster["headGroupSpec"], HEAD_GROUP)]
    groups += [(group, WORKER_GROUP) for group in cluster["workerGroupSpecs"]]
    for group, documented in groups:
        check(group, documented, group.get("groupName", "head"))
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        check_pod(group["template"], group.get("groupName", "head"))


def test_the_rayjob_does_what_it_says(job: dict[str, Any]) -> None:
    """Its command passes the verb's own parser; GPUs and CPUs come from zero; image and Ray's version agree."""
    program, *words = shlex.split(job["spec"]["entrypoint"])
    assert (program, parse_words(words)[0]) == ("scclip", "label")
    cluster = job["spec"]["rayClusterSpec"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert all(group["replicas"] == group["minReplicas"] == 0 < group["maxReplicas"] for group in groups.values())
    limits = groups["gpu"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1" and cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert f"ARG RAY={cluster['rayVersion']}\n" in (ROOT / "Dockerfile").read_text()
    pods = [cluster["headGroupSpec"], *groups.values()]
    assert len({pod["template"]["spec"]["containers"][0]["image"] for pod in pods}) == 1


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """cluster.yaml as `ray up` reads it, defaults filled in."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    validate_config(config)
    return dict(config)


def test_rays_validator_accepts_the_cluster_and_its_workers_start_from_zero(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    workers = {name: entry for name, entry in types.items() if name != "head"}
    assert all(entry["min_workers"] == 0 < entry["max_workers"] for entry in workers.values())
    spot = {name for name, entry in workers.items() if "InstanceMarketOptions" in entry["node_config"]}
    assert spot == {"gpu-spot", "cpu-spot"}
    assert not cluster["setup_commands"] and not cluster["head_setup_commands"]  # the image holds everything


def test_rays_validator_refuses_a_wrong_cluster() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "cluster.yaml").read_text()) | {"max_wrkers": 3}
    with pytest.raises(Exception, match="max_wrkers"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize(
    ("failed", "demand", "started"),
    [
        ((), {"GPU": 1, "CPU": 1}, "gpu-spot"),
        (("gpu-spot",), {"GPU": 1, "CPU": 1}, "gpu-on-demand"),
        (("gpu-spot", "gpu-on-demand"), {"GPU": 1, "CPU": 1}, "gpu-spot"),
        ((), {"CPU": 0.5}, "cpu-spot"),
    ],
)
def test_spot_falls_back(
    cluster: dict[str, Any], failed: tuple[str, ...], demand: dict[str, float], started: str
) -> None:
    """Ray's own scheduler, with our scorer: what it starts for one actor after these types failed to launch."""
    from functools import partial

    from ray.autoscaler._private.node_provider_availability_tracker import (
        NodeAvailabilityRecord,
        NodeAvailabilitySummary,
    )
    from ray.autoscaler._private.resource_demand_scheduler import get_nodes_for

    records = {name: NodeAvailabilityRecord(name, False, 0.0, None) for name in failed}
    scorer = partial(prefer_available, node_availability_summary=NodeAvailabilitySummary(records))
    types = cluster["available_node_types"]
    nodes, left = get_nodes_for(types, {"head": 1}, "head", 9, [demand], scorer)
    assert (dict(nodes), left) == ({started: 1}, [])
    environment = " ".join(cluster["head_start_ray_commands"])
    assert "RAY_AUTOSCALER_UTILIZATION_SCORER=scclip.pipeline.cluster.spot.prefer_available" in environment
