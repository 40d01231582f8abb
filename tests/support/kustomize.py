"""What `kubectl kustomize` prints, as far as deploy/kubernetes uses it: without kubectl.

Of a kustomization: resources, namespace, images, and patches that are merged by name. For
`make check`: python tests/kustomize.py FOLDER… > manifests.yaml
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
"""By which Kubernetes merges the items of these lists; another list replaces the former one."""

KNOWN = {"apiVersion", "kind", "resources", "namespace", "images", "patches"}


def render(folder: Path) -> list[dict[str, Any]]:
    """Return the manifests of a kustomization.

    Raises:
        ValueError: it uses a feature that is not known here.
    """
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    if unknown := kustomization.keys() - KNOWN:
        raise ValueError(f"{folder}: {sorted(unknown)} cannot be rendered")
    manifests = [
        manifest
        for name in kustomization["resources"]
        for manifest in (
            render(folder / name) if (folder / name).is_dir() else [_load(folder, name)]
        )
    ]
    for patch in kustomization.get("patches", []):
        change = _load(folder, patch["path"])
        (place,) = (at for at, manifest in enumerate(manifests) if _same(manifest, change))
        manifests[place] = _merge(manifests[place], change)
    for manifest in manifests:
        if "namespace" in kustomization and manifest["kind"] != "Namespace":
            manifest["metadata"]["namespace"] = kustomization["namespace"]
        for image in kustomization.get("images", []):
            for container in containers(manifest):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return manifests


def containers(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the containers of a manifest, if it has any."""
    yield from manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])


def _load(folder: Path, name: str) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((folder / name).read_text("utf-8"))
    return manifest


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (one["kind"], one["metadata"]["name"]) == (other["kind"], other["metadata"]["name"])


def _merge(value: Any, change: Any, within: str = "") -> Any:
    if isinstance(value, dict) and isinstance(change, dict):
        merged = {key: _merge(value[key], change[key], key) for key in value.keys() & change.keys()}
        return {**value, **change, **merged}
    if isinstance(value, list) and within in KEYS:
        key = KEYS[within]
        known = {item[key]: item for item in value}
        changed = [_merge(known.pop(item[key], None), item) for item in change]
        return [*changed, *known.values()]
    return change


if __name__ == "__main__":
    rendered = [manifest for folder in sys.argv[1:] for manifest in render(Path(folder))]
    print(yaml.safe_dump_all(rendered, sort_keys=False), end="")
