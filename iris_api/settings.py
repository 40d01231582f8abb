"""The environment variables, read once."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError

from iris_api.errors import IrisError

DURATION_BUCKETS = [
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
]
"""Of a request, in seconds: BentoML's begin at 5 ms, and a single row takes half of one."""

MAXIMUM_WORKERS = 1024
"""More than any machine has cores. BentoML makes a list of them all, which can take all memory."""


class SettingsError(IrisError):
    """An environment variable that cannot be understood."""


class Settings(BaseModel):
    """Our own variables; MLflow and BentoML read theirs themselves.

    Each field's alias is its variable. pydantic-settings would do the same, and take 0.1 s and 6 MB
    in every process for the sources of settings that nobody uses here.
    """

    model_config = ConfigDict(frozen=True, alias_generator=lambda name: f"IRIS_{name}".upper())

    model_uri: str = "models:/IrisModel/Production"
    port: int = Field(default=8000, ge=1, le=65535)
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    workers: int | None = Field(default=None, ge=1, le=MAXIMUM_WORKERS)
    reload_seconds: float = Field(default=5, ge=0, allow_inf_nan=False)
    drain_seconds: float = Field(default=8, gt=0, allow_inf_nan=False)
    access_log: bool = False
    otlp_endpoint: str = Field(default="", alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    max_body_bytes: ByteSize = Field(default=ByteSize(16 * 1024**2), gt=0)
    max_rows: int = Field(default=100_000, ge=1)
    max_concurrency: int = Field(default=64, ge=1)
    timeout_seconds: float = Field(default=30, gt=0, allow_inf_nan=False)
    api_keys_file: Path | None = None
    import_max_bytes: ByteSize = Field(default=ByteSize(512 * 1024**2), gt=0)
    keep_versions: int = Field(default=5, ge=1)


@cache
def settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: a variable is not what it should be; the message names the first.
    """
    try:
        # An empty variable is one that is not set.
        return Settings.model_validate({name: text for name, text in os.environ.items() if text})
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None


def bentoml_config() -> dict[str, Any]:
    """Return what these settings mean in the terms of `bentoml.service`."""
    config: dict[str, Any] = {
        "http": {"port": settings().port},
        # As many as cores, in a container as many as it may use.
        "workers": settings().workers or "cpu_count",
        "metrics": {
            "enabled": True,
            "namespace": "bentoml_service",
            "duration": {"buckets": DURATION_BUCKETS},
        },
        "logging": {"access": {"enabled": settings().access_log}},
    }
    if settings().otlp_endpoint:
        # The exporter reads the endpoint, and all else, from OpenTelemetry's own variables.
        config["tracing"] = {
            "exporter_type": "otlp",
            "sample_rate": 1.0,
            "otlp": {"protocol": "http"},
        }
    return config
