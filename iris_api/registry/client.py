"""One tracking server: its REST API and its artifact proxy, behind MLflow's own login variables."""

import configparser
import json
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import requests
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from iris_api.errors import IrisError, one_line
from iris_api.registry.error_messages import (
    PROXY_IS_OFF,
    TrackingError,
    is_transient,
    refusal,
    silence,
)

T = TypeVar("T")

RETRIES = 3
"""After the first try. MLflow's default of 7 with back-off is four silent minutes."""

BACKOFF_SECONDS = 0.5
"""The first pause; each following one is twice as long, with up to half of it added at random."""

REQUEST_SECONDS = 30
"""For one answer to begin, where MLFLOW_HTTP_REQUEST_TIMEOUT does not say otherwise."""

MAXIMUM_JSON_BYTES = 8 * 1024**2
"""A thousand files are listed in 100 kB."""

MAXIMUM_ERROR_BYTES = 64 * 1024

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})

CERTIFICATES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH")


class BrokenAnswerError(TrackingError):
    """A success whose body stopped too early; worth another try."""


class TrackingServer:
    """GET requests to one tracking server, and to no other host.

    Args:
        uri: the tracking URI, http or https; a user and password in it are used and never shown.
        report: told each retry, one line each.

    Raises:
        TrackingError: the URI or a variable of MLflow is not what it should be.
    """

    def __init__(self, uri: str, report: Callable[[str], None]) -> None:
        if not uri:
            raise TrackingError("MLFLOW_TRACKING_URI is not set; set it to http://HOST:5000")
        try:
            parts = urlsplit(uri)
            is_server = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            is_server = False
        if not is_server:
            # A login ends at the last @, whatever comes before it, and a query may be one.
            shown = one_line(uri.rpartition("@")[2].partition("?")[0])
            raise TrackingError(
                f"MLFLOW_TRACKING_URI is {shown!r} and must be the http:// or https:// address of "
                "a tracking server with --serve-artifacts, because the model is fetched through it"
            )
        self.netloc = parts.netloc.rpartition("@")[2]
        clean = parts._replace(netloc=self.netloc, query="", fragment="")
        self.address = clean.geturl().rstrip("/")
        self._credentials = _credentials(self.address)
        if parts.username is not None:
            # As headers, because an address turns up in the messages of libraries.
            self._credentials.username = unquote(parts.username)
            self._credentials.password = unquote(parts.password or "")
        self._report = report

    def get_json(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the REST API.

        Raises:
            NotFoundError: the server says that the thing does not exist.
            TrackingError: anything else that is not a JSON object.
        """
        body = self.get(path, params, receive=lambda answer: _read(answer, MAXIMUM_JSON_BYTES))
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self.unlike_mlflow()
        return content

    def unlike_mlflow(self) -> TrackingError:
        """Make the error for an answer that no MLflow server gives."""
        return TrackingError(
            f"{self.address} does not answer like an MLflow tracking server; "
            "is MLFLOW_TRACKING_URI right?"
        )

    def get(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        receive: Callable[[requests.Response], T],
    ) -> T:
        """Ask, and ask again after faults that pass.

        Args:
            path: below the tracking URI, such as /api/2.0/mlflow/runs/get.
            params: the query.
            receive: reads the body of a success, once for each try.

        Returns:
            What `receive` returned.

        Raises:
            NotFoundError: the server says that the thing does not exist.
            TrackingError: anything else that is not a success.
        """
        problem: TrackingError
        for attempt in range(RETRIES + 1):
            pause = None
            try:
                with self._ask(path, params) as response:
                    if response.status_code == 200:
                        return receive(response)
                    text = _read(response, MAXIMUM_ERROR_BYTES).decode(errors="replace")
                    pause = _retry_after(response)
                status = response.status_code
                login = "Authorization" in response.request.headers
                problem = refusal(self.address, status, text, login=login)
                if status not in TRANSIENT or PROXY_IS_OFF in text:
                    raise problem
            except BrokenAnswerError as error:
                problem = error
            except requests.RequestException as error:
                problem = silence(self.address, error)
                if not is_transient(error):
                    raise problem from None
            if attempt < RETRIES:
                if pause is None:
                    pause = BACKOFF_SECONDS * 2**attempt * random.uniform(1, 1.5)  # noqa: S311
                self._report(f"{problem}; trying again in {pause:.1f} s")
                time.sleep(pause)
        raise problem

    def _ask(self, path: str, params: Mapping[str, Any] | None) -> requests.Response:
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
        except MlflowException as error:
            # MLflow wraps what requests raised, and with it the reason that a person needs.
            cause = error.__cause__ or error.__context__
            if isinstance(cause, requests.RequestException | IrisError):
                raise cause from None
            if isinstance(cause, UnicodeError):
                raise requests.exceptions.InvalidHeader from None
            raise TrackingError(f"cannot ask {self.address}: {one_line(cause or error)}") from None
        except ImportError as error:
            raise TrackingError(
                f"cannot ask {self.address}: {one_line(error)}; install what MLFLOW_TRACKING_AUTH "
                "or MLFLOW_TRACKING_AWS_SIGV4 needs"
            ) from None
        return response


def _credentials(address: str) -> MlflowHostCreds:
    """Read MLflow's variables and its file of credentials, and refuse what would fail late."""
    try:
        credentials: MlflowHostCreds = get_default_host_creds(address)
        MLFLOW_HTTP_REQUEST_TIMEOUT.get()
    except (configparser.Error, OSError, UnicodeError):
        # Their messages quote the file, which has a password in it.
        raise TrackingError("~/.mlflow/credentials cannot be read; mend or remove it") from None
    except MlflowException:
        raise TrackingError(
            "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH contradict each "
            "other; unset one of them"
        ) from None
    except ValueError as error:
        raise TrackingError(f"a variable of MLflow is wrong: {one_line(error)}") from None
    for variable in CERTIFICATES:
        if (path := os.environ.get(variable)) and not Path(path).exists():
            raise TrackingError(f"{variable} names a file that is not there: {one_line(path)}")
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
    """Take the server's word for the pause, up to half a minute."""
    value = response.headers.get("Retry-After", "")
    return min(float(value), 30.0) if value.isascii() and value.isdecimal() else None
