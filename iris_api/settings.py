"""The environment variables, read once."""

from functools import cache

from pydantic import ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from iris_api import IrisError


class SettingsError(IrisError):
    """An environment variable that cannot be understood."""


class Settings(BaseSettings):
    """Our own variables; MLflow and BentoML read theirs themselves."""

    model_config = SettingsConfigDict(env_prefix="IRIS_", frozen=True)

    model_uri: str = "models:/IrisModel/Production"
    port: int = Field(default=8000, ge=1, le=65535)
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
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
        name = f"IRIS_{first['loc'][0]}".upper()
        raise SettingsError(f"{name}: {first['msg']}, got {first['input']!r}") from None
