"""The environment variables, read once."""

from functools import cache
from typing import Any

from pydantic import ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from iris_api import IrisError


class SettingsError(IrisError):
    """An environment variable that cannot be understood."""


class Settings(BaseSettings):
    """Our own variables; MLflow and BentoML read theirs themselves."""

    model_config = SettingsConfigDict(env_prefix="IRIS_", frozen=True, env_ignore_empty=True)

    model_uri: str = "models:/IrisModel/Production"
    port: int = Field(default=8000, ge=1, le=65535)
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    workers: int | None = Field(default=None, ge=1)
    reload_seconds: float = Field(default=5, ge=0, allow_inf_nan=False)
    drain_seconds: float = Field(default=8, gt=0, allow_inf_nan=False)
    access_log: bool = False
    otlp_endpoint: str = Field(default="", alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    max_body_bytes: ByteSize = Field(default=ByteSize(16 * 1024**2), gt=0)
    max_rows: int = Field(default=100_000, ge=1)
    import_max_bytes: ByteSize = Field(default=ByteSize(512 * 1024**2), gt=0)


@cache
def settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: a variable is not what it should be; the message names the first.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        name = f"IRIS_{field}".upper() if field in Settings.model_fields else field
        raise SettingsError(f"{name}: {first['msg']}, got {first['input']!r}") from None


def bentoml_config() -> dict[str, Any]:
    """Return what these settings mean in the terms of `bentoml.service`."""
    config: dict[str, Any] = {
        "http": {"port": settings().port},
        # As many as cores, in a container as many as it may use.
        "workers": settings().workers or "cpu_count",
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
