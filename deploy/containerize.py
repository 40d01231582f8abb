"""Build the image of the newest Bento, with labels that tell which model it carries."""

import subprocess
import sys
from pathlib import Path

import bentoml

from iris_api import store

OCI = "org.opencontainers.image."
MODEL = "iris-api.model."


def main(image: str) -> int:
    """Run `bentoml containerize`.

    Args:
        image: name of the image, with or without a tag.
    """
    bento = bentoml.get("iris_api:latest")
    options = [f"--label={key}={value}" for key, value in labels(bento).items()]
    bentoml_command = str(Path(sys.executable).parent / "bentoml")
    command = [bentoml_command, "containerize", str(bento.tag), "--image-tag", image, *options]
    return subprocess.run(command, check=False).returncode


def labels(bento: bentoml.Bento) -> dict[str, str]:
    """Describe a Bento in OCI's words, and the model that it carries in ours."""
    found = {
        f"{OCI}title": "iris-api",
        f"{OCI}version": str(bento.tag.version),
        f"{OCI}created": bento.creation_time.isoformat(timespec="seconds"),
        f"{OCI}licenses": "Apache-2.0",
    }
    for model in bento.info.all_models:
        entry = store.get(model.tag)
        known = store.metadata_of(entry)
        found[f"{MODEL}tag"] = str(entry.tag)
        found |= {f"{MODEL}{key}": str(known[key]) for key in ("name", "version", "digest")}
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
