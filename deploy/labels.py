"""Print the options of `bentoml containerize` that label the image of the newest Bento."""

import bentoml

from iris_api.store import entry as store

OCI = "org.opencontainers.image."
MODEL = "iris-api.model."


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
        found[f"{MODEL}tag"] = str(entry.tag)
        found[f"{MODEL}name"] = entry.metadata.name
        found[f"{MODEL}version"] = str(entry.metadata.version)
        found[f"{MODEL}digest"] = entry.metadata.digest
    return found


if __name__ == "__main__":
    for key, value in labels(bentoml.get("iris_api:latest")).items():
        print(f"--label={key}={value}")
