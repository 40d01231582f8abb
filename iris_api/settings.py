"""The settings: environment variables, read once."""

import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from iris_api.errors import IrisError

logger = logging.getLogger(__name__)

DURATION_BUCKETS = [
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
]
"""Histogram buckets of request durations, in seconds; those of BentoML start at 5 ms."""


def _read_hosts(text: str) -> frozenset[str]:
    """Split a list of hosts; a scheme, a path or a login would be ignored silently."""
    hosts = frozenset(filter(None, re.split(r"[,\s]+", text.lower())))
    if any(re.search("[/@?#]", host) for host in hosts):
        raise PydanticCustomError("hosts", "must be HOST or HOST:PORT, separated by commas")
    return hosts


def _read_origins(text: str) -> frozenset[str]:
    """Split a list of origins; browsers name them without a path."""
    origins = frozenset(filter(None, re.split(r"[,\s]+", text.lower())))
    if not all(origin == "*" or re.fullmatch("https?://[^/@?#]+", origin) for origin in origins):
        raise PydanticCustomError("origins", "must be * or https://HOST, separated by commas")
    return origins


Origins = Annotated[frozenset[str], BeforeValidator(_read_origins)]
Hosts = Annotated[frozenset[str], BeforeValidator(_read_hosts)]


class SettingsError(IrisError):
    """An environment variable with an invalid value."""


class Settings(BaseModel):
    """The variables that this project reads; MLflow and BentoML read more of their own.

    The alias of each field is the name of its variable. pydantic-settings would do the same, but
    costs every process 0.1 s and 6 MB.
    """

    model_config = ConfigDict(frozen=True, alias_generator=lambda name: f"IRIS_{name}".upper())

    model_uri: str = "models:/IrisModel/Production"
    model_folder: Path | None = None
    port: int = Field(default=8000, ge=1, le=65535)
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    workers: int | None = Field(default=None, ge=1, le=1024)  # BentoML builds a list this long
    reload_seconds: float = Field(default=5, ge=0, allow_inf_nan=False)
    drain_seconds: float = Field(default=8, gt=0, allow_inf_nan=False)
    access_log: bool = False
    tracking_uri: str = Field(default="", alias="MLFLOW_TRACKING_URI")
    registry_uri: str = Field(default="", alias="MLFLOW_REGISTRY_URI")
    workspace: str = Field(default="", alias="MLFLOW_WORKSPACE")
    artifact_hosts: Hosts = frozenset()
    artifact_username: str = ""
    artifact_password: SecretStr = SecretStr("")
    artifact_token: SecretStr = SecretStr("")
    otlp_endpoint: str = Field(default="", alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    otlp_traces_endpoint: str = Field(default="", alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    traces_exporter: str = Field(default="", alias="OTEL_TRACES_EXPORTER")
    otel_config_file: str = Field(default="", alias="OTEL_CONFIG_FILE")
    otel_disabled: bool = Field(default=False, alias="OTEL_SDK_DISABLED")
    max_body_bytes: ByteSize = Field(default=ByteSize(16 * 1024**2), gt=0)
    max_rows: int = Field(default=100_000, ge=1)
    max_concurrency: int = Field(default=64, ge=1)
    timeout_seconds: float = Field(default=30, gt=0, allow_inf_nan=False)
    keep_alive_seconds: float = Field(default=75, gt=0, allow_inf_nan=False)
    api_keys_file: Path | None = None
    cors_origins: Origins = frozenset()
    import_max_bytes: ByteSize = Field(default=ByteSize(512 * 1024**2), gt=0)
    import_memory_bytes: ByteSize = Field(default=ByteSize(1280 * 1024**2), ge=256 * 1024**2)
    import_cpu_seconds: float = Field(default=120, gt=0, allow_inf_nan=False)
    keep_versions: int = Field(default=5, ge=1)

    @property
    def imports_at_start(self) -> bool:
        """Whether a served Bento imports a model before it answers."""
        return bool(self.tracking_uri or self.model_folder)

    @property
    def traced(self) -> bool:
        """Whether OpenTelemetry's variables ask for traces; OpenTelemetry reads more of them."""
        endpoint = self.otlp_traces_endpoint or self.otlp_endpoint
        exporter = self.traces_exporter.strip().lower() or endpoint or self.otel_config_file
        return not self.otel_disabled and exporter not in {"", "none"}


@cache
def settings() -> Settings:
    """Return the settings of this process, or raise a SettingsError for the first wrong one."""
    for name in ("IRIS_PORT", "IRIS_MLFLOW_PORT"):
        # Kubernetes and Docker's links set it in each container beside a service named iris.
        if os.environ.get(name, "").startswith("tcp://"):
            # Removed, so that the processes started from here do not log it again.
            address = os.environ.pop(name)
            logger.warning("%s=%s is of a service named iris; ignoring it", name, address)
    try:
        # An empty variable counts as unset.
        return Settings.model_validate({name: text for name, text in os.environ.items() if text})
    except ValidationError as error:
        first = error.errors()[0]
        # What has an @ in it may have a login before that.
        got = "" if "@" in str(first["input"]) else f", got {first['input']!r}"
        raise SettingsError(f"{first['loc'][0]}: {first['msg']}{got}") from None


CORS = {
    "enabled": True,
    "access_control_allow_methods": ["GET", "POST"],
    "access_control_allow_headers": [
        *("Authorization", "Content-Type", "Content-Encoding", "Inference-Header-Content-Length"),
    ],
    "access_control_expose_headers": [
        *("X-Model-Version", "Retry-After", "Inference-Header-Content-Length"),
    ],
    "access_control_max_age": 600,
}
"""The requests and headers that pages of other origins may send and read, and the seconds for which
a browser may keep this permission; 600 is starlette's default."""


def bentoml_config() -> dict[str, Any]:
    """Return the settings as keyword arguments of `bentoml.service`."""
    origins = sorted(settings().cors_origins)
    cors = CORS | {"access_control_allow_origins": origins} if origins else {}
    return {
        "http": {"port": settings().port, "cors": cors},
        # One worker a core; in a container, one for each core that it may use.
        "workers": settings().workers or "cpu_count",
        "metrics": {"duration": {"buckets": DURATION_BUCKETS}},
        "logging": {"access": {"enabled": settings().access_log}},
    }
