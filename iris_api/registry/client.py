"""One tracking server: its REST API and its artifact proxy, with MLflow's own login variables."""

import configparser
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

import requests
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import MlflowHostCreds, http_request
from pydantic import TypeAdapter, ValidationError

from iris_api.errors import IrisError, one_line
from iris_api.registry.error_messages import (
    PROXY_IS_OFF,
    TrackingError,
    explain_no_answer,
    explain_status,
    is_transient,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")
Query: TypeAlias = Mapping[str, object]

RETRIES = 3
"""Attempts after the first one. MLflow's default of 7 with back-off is four silent minutes."""

BACKOFF_SECONDS = 0.5
"""The first pause; each next one is twice as long, with up to half of it added at random."""

MAXIMUM_PAUSE_SECONDS = 30.0
"""Longest pause that a server may ask for with `Retry-After`."""

REQUEST_SECONDS = 30
"""Time for an answer to begin, unless MLFLOW_HTTP_REQUEST_TIMEOUT is set."""

MAXIMUM_JSON_BYTES = 8 * 1024**2
"""A listing of a thousand files has 100 kB."""

MAXIMUM_ERROR_BYTES = 64 * 1024

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses after which a request is sent again."""


class BrokenAnswerError(TrackingError):
    """A success whose body stopped too early; it is worth a retry."""


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


class TrackingServer:
    """GET requests to one tracking server, and to no other host.

    Args:
        uri: The tracking URI, http or https; a login in it is used and never shown.

    Raises:
        TrackingError: The URI or a variable of MLflow is wrong.
    """

    def __init__(self, uri: str) -> None:
        if not uri:
            raise TrackingError("MLFLOW_TRACKING_URI is not set; set it to http://HOST:5000")
        try:
            parts, login = split_login(uri)
            is_server = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            is_server = False
        if not is_server:
            # Nothing before the last @ is shown, and a query may be a login, too.
            shown = one_line(uri.rpartition("@")[2].partition("?")[0])
            raise TrackingError(
                f"MLFLOW_TRACKING_URI is {shown!r} and must be the http:// or https:// address of "
                "a tracking server with --serve-artifacts, because the model is fetched through it"
            )
        self.host = parts.netloc
        self.address = parts._replace(query="", fragment="").geturl().rstrip("/")
        self._credentials = _credentials(self.address)
        if login:
            # Sent as a header, because libraries repeat an address in their messages.
            self._credentials.username, self._credentials.password = login

    def get_json(self, path: str, params: Query, key: str, kind: type[T]) -> T:
        """Call the REST API, and return what the answer has under a key.

        An empty list is left out by MLflow, and returned here. The exceptions are those of `get`.
        """
        body = self.get(path, params, partial(_read, limit=MAXIMUM_JSON_BYTES))
        try:
            content = TypeAdapter(dict[str, Any]).validate_json(body)
            return TypeAdapter(kind).validate_python(content.get(key, []))
        except ValidationError:
            raise self.unlike_mlflow() from None

    def unlike_mlflow(self) -> TrackingError:
        """Return the error for an answer that no MLflow server gives."""
        return TrackingError(
            f"{self.address} does not answer like an MLflow tracking server; "
            "is MLFLOW_TRACKING_URI right?"
        )

    def get(self, path: str, params: Query, receive: Callable[[requests.Response], T]) -> T:
        """Send a request, and retry it after transient failures; each retry is logged.

        Args:
            path: The path below the tracking URI, such as /api/2.0/mlflow/runs/get.
            params: The query.
            receive: Reads the body of a success and returns the result; called once an attempt.

        Raises:
            NotFoundError: The server says that the thing does not exist.
            TrackingError: The answer is anything else than a success.
        """
        problem: TrackingError
        for attempt in range(RETRIES + 1):
            pause = None
            try:
                with self._send(path, params) as response:
                    if response.status_code == 200:
                        return receive(response)
                    text = _read(response, MAXIMUM_ERROR_BYTES).decode(errors="replace")
                    pause = _retry_after(response)
                status = response.status_code
                login = "Authorization" in response.request.headers
                problem = explain_status(self.address, status, text, login=login)
                if status not in TRANSIENT or PROXY_IS_OFF in text:
                    raise problem
            except BrokenAnswerError as error:
                problem = error
            except requests.RequestException as error:
                problem = explain_no_answer(self.address, error)
                if not is_transient(error):
                    raise problem from None
            if attempt < RETRIES:
                if pause is None:
                    pause = BACKOFF_SECONDS * 2**attempt * random.uniform(1, 1.5)  # noqa: S311
                logger.warning("%s; trying again in %.1f s", problem, pause)
                time.sleep(pause)
        raise problem

    def _send(self, path: str, params: Query) -> requests.Response:
        try:
            response: requests.Response = http_request(
                self._credentials,
                path,
                "GET",
                params=params,
                stream=True,
                # A redirect could carry the login to another host.
                allow_redirects=False,
                max_retries=0,
                retry_codes=(),
                raise_on_status=False,
                respect_retry_after_header=False,
                timeout=None if "MLFLOW_HTTP_REQUEST_TIMEOUT" in os.environ else REQUEST_SECONDS,
                # The sizes of a listing are those of the plain files.
                extra_headers={"Accept-Encoding": "identity"},
            )
        except (MlflowException, ImportError) as error:
            # MLflow hides what requests raised, and with it the reason. It imports the packages of
            # MLFLOW_TRACKING_AUTH and MLFLOW_TRACKING_AWS_SIGV4 now.
            cause = error.__cause__ or error.__context__
            if isinstance(cause, requests.RequestException | IrisError):
                raise cause from None
            if isinstance(cause, UnicodeError):
                raise requests.exceptions.InvalidHeader from None
            raise TrackingError(f"cannot ask {self.address}: {one_line(cause or error)}") from None
        return response


def _credentials(address: str) -> MlflowHostCreds:
    """Read MLflow's variables and its file of credentials, and reject what would fail later."""
    try:
        credentials: MlflowHostCreds = get_default_host_creds(address)
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
            raise TrackingError(f"{variable} names a file that does not exist: {one_line(path)}")
    return credentials


def _read(response: requests.Response, limit: int) -> bytes:
    """Read a body up to a limit, because a server may send without end."""
    body = b""
    for chunk in response.iter_content(64 * 1024):
        body += chunk
        if len(body) > limit:
            break
    return body[:limit]


def _retry_after(response: requests.Response) -> float | None:
    """Return the pause that the server asks for, in seconds, within reason."""
    value = response.headers.get("Retry-After", "")
    is_number = value.isascii() and value.isdecimal()
    return min(float(value), MAXIMUM_PAUSE_SECONDS) if is_number else None
