"""The addresses of the servers of an import, and the login that each of them gets."""

import configparser
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import MlflowHostCreds

from iris_api.errors import one_line
from iris_api.registry.error_messages import TRACKING, TrackingError, Variables


@dataclass(frozen=True)
class Address:
    """The address of an MLflow server, without a login, and the login that belongs to it.

    Attributes:
        url: The scheme, host and path, such as https://mlflow.example/tools.
        host: The host, and the port if there is one.
        variables: The environment variables that error messages name.
        login: A user and a password, before those of MLflow's variables.
        token: A token, if the server has a login of its own.
    """

    url: str
    host: str
    variables: Variables = TRACKING
    login: tuple[str, str] | None = None
    token: str | None = None

    @classmethod
    def parse(cls, uri: str, variables: Variables = TRACKING) -> "Address":
        """Read the value of a variable; a login in it is used and never shown.

        Raises:
            TrackingError: It is not the address of a server.
        """
        if not uri:
            raise TrackingError(f"{variables.address} is not set; set it to http://HOST:5000")
        try:
            parts, login = split_login(uri)
            is_server = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            is_server = False
        if not is_server:
            # Nothing before the last @ is shown, and a query may be a login, too.
            shown = one_line(uri.rpartition("@")[2].partition("?")[0])
            raise TrackingError(
                f"{variables.address} is {shown!r} and must be the http:// or https:// address of "
                "a tracking server with --serve-artifacts, because the model is fetched through it"
            )
        url = parts._replace(query="", fragment="").geturl().rstrip("/")
        return cls(url, parts.netloc, variables, login)

    def credentials(self) -> MlflowHostCreds:
        """Read MLflow's variables and its file of credentials, and reject what would fail later."""
        try:
            found: MlflowHostCreds = get_default_host_creds(self.url)
            MLFLOW_HTTP_REQUEST_TIMEOUT.get()
        except (configparser.Error, OSError, UnicodeError):
            # Their messages quote the file, which has a password in it.
            raise TrackingError("~/.mlflow/credentials cannot be read; fix or remove it") from None
        except MlflowException:
            raise TrackingError(
                "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH contradict each "
                "other; unset one of them"
            ) from None
        except ValueError as error:
            raise TrackingError(f"a variable of MLflow is wrong: {one_line(error)}") from None
        for variable in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"):
            if (path := os.environ.get(variable)) and not Path(path).exists():
                raise TrackingError(
                    f"{variable} names a file that does not exist: {one_line(path)}"
                )
        if self.variables.own_login:
            found.username = found.password = found.auth = found.client_cert_path = None
            found.token, found.aws_sigv4 = self.token, False
        if self.login:
            # Sent as a header, because libraries repeat an address in their messages.
            found.username, found.password = self.login
        return found


def split_login(url: str) -> tuple[SplitResult, tuple[str, str] | None]:
    """Split a URL into its parts without the login, and the login: user and password, decoded.

    Raises:
        ValueError: The URL cannot be split; its text may have a login in it.
    """
    parts = urlsplit(url)
    # A password may have an @ in it, a host may not.
    login, _, host = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    clean = parts._replace(netloc=host)
    return clean, (unquote(username), unquote(password)) if login else None
