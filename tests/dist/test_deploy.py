"""What ``deploy/`` holds is accepted by a linter, by Kubernetes' schemas and by the code that it names."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from icebreaker.cluster.plan import ServePlan
from icebreaker.config import from_mapping

jsonschema = pytest.importorskip("jsonschema", reason="comes with ray: run `make test-dist`")
kubernetes = pytest.importorskip("kubernetes_validate", reason="run `make test-dist`")
DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFEST = DEPLOY / "rayservice.yaml"
KUBERNETES = "1.31"  # supported by every KubeRay that knows ray.io/v1 with what the manifest uses


def parts() -> dict[str, Any]:
    return {part["kind"]: part for part in yaml.safe_load_all(MANIFEST.read_text())}


def templates() -> list[dict[str, Any]]:
    cluster = parts()["RayService"]["spec"]["rayClusterConfig"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_the_dockerfile_passes_hadolint() -> None:
    checked = subprocess.run(
        [str(Path(sys.executable).parent / "hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_manifest_passes_yamllint() -> None:
    rules = "{extends: default, rules: {line-length: {max: 120}, braces: {max-spaces-inside: 0}}}"
    checked = subprocess.run(
        [sys.executable, "-m", "yamllint", "-d", rules, "--strict", str(MANIFEST)], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_ray_service_has_kuberays_fields() -> None:
    schema = json.loads((DEPLOY / "rayservice.schema.json").read_text())
    jsonschema.validate(parts()["RayService"], schema)
    wrong = parts()["RayService"]
    wrong["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["minReplica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        jsonschema.validate(wrong, schema)


def test_kubernetes_takes_the_claim_and_the_pods() -> None:
    kubernetes.validate(parts()["PersistentVolumeClaim"], KUBERNETES, strict=True)
    for template in templates():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}
        kubernetes.validate(pod, KUBERNETES, strict=True)
        pod["spec"]["containers"][0]["volumeMount"] = []
        with pytest.raises(kubernetes.ValidationError):
            kubernetes.validate(pod, KUBERNETES, strict=True)


def test_what_is_mounted_is_what_the_plan_reads() -> None:
    config = yaml.safe_load(parts()["RayService"]["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    module, name = application["import_path"].split(":")
    pytest.importorskip("ray")
    assert callable(getattr(importlib.import_module(module), name))
    plan = from_mapping(ServePlan, application["args"], "args")
    for template in templates():
        (container,) = template["spec"]["containers"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {str(plan.engine.sessions), str(plan.api_key_file.parent)} == mounts
        grace_s = template["spec"]["terminationGracePeriodSeconds"]
        assert grace_s >= plan.server.drain_s + 15


def test_the_image_has_the_ray_that_the_manifest_names() -> None:
    version = parts()["RayService"]["spec"]["rayClusterConfig"]["rayVersion"]
    assert f'"ray[default]=={version}"' in (DEPLOY / "Dockerfile").read_text()
