"""A tracking server that requires a login."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from support import servers

ADMIN = "keeper"


@contextlib.contextmanager
def guarded_server(
    folder: Path, password: str, *, env: Mapping[str, str], database: Path, host: str = "127.0.0.1"
) -> Iterator[servers.Server]:
    """Run a tracking server with a login and with the database of another one."""
    settings = folder / "auth.ini"
    settings.write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = {ADMIN}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    env = {
        **env,
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
    }
    options = ("--serve-artifacts", "--app-name", "basic-auth")
    with servers.mlflow_server(folder, *options, env=env, database=database, host=host) as server:
        yield server
