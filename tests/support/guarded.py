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
    """Run a tracking server with --app-name basic-auth and the models of another one.

    Args:
        folder: for the log and the users.
        password: of `ADMIN`, its one user.
        env: of the process.
        database: of the other server.
        host: address of this machine to listen on.
    """
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
