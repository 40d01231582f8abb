"""One tracking server: its REST API and its artifact proxy, behind MLflow's own login variables."""

import json
import os
import random
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from urllib3.exceptions import NameResolutionError

from iris_api import IrisError, one_line

RETRIES = 3
"""After the first try. MLflow's default of 7 with back-off is four silent minutes."""

BACKOFF_SECONDS = 0.5
"""The first pause; each following one is twice as long, with up to half of it added at random."""

REQUEST_SECONDS = 30
"""For one answer to begin, where MLFLOW_HTTP_REQUEST_TIMEOUT does not say otherwise."""

MAXIMUM_JSON_BYTES = 8 * 1024**2
"""A thousand files are listed in 100 kB."""

MAXIMUM_ERROR_BYTES = 64 * 1024

PROXY_IS_OFF = "--no-serve-artifacts"
"""What MLflow's 503 says where the artifact proxy is switched off: nothing to wait for."""

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class TrackingError(IrisError):
    """The server cannot be reached, refuses, or answers what MLflow would not."""


class NotFoundError(TrackingError):
    """The server answers, and has no such thing."""


class TrackingServer:
    """GET requests to one tracking server, and to no other host.

    Args:
        uri: the tracking URI, http or https; a user and password in it are used and never shown.
        report: told each retry, one line each.

    Raises:
        TrackingError: the URI is missing or is not that of a server.
    """

    def __init__(self, uri: str, report: Callable[[str], None]) -> None:
        parts = urlsplit(uri)
        if not uri:
            raise TrackingError("MLFLOW_TRACKING_URI is not set; set it to http://HOST:5000")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise TrackingError(
                "MLFLOW_TRACKING_URI must be the http:// or https:// address of a tracking server "
                "with --serve-artifacts, because the model is fetched through it"
            )
        self.netloc = parts.netloc.rpartition("@")[2]
        self.address = parts._replace(netloc=self.netloc, query="", fragment="").geturl()
        self._credentials = get_default_host_creds(uri.rstrip("/"))
        self.report = report

    def get_json(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the REST API.

        Raises:
            NotFoundError: the server says that the thing does not exist.
            TrackingError: anything else that is not a JSON object.
        """
        with self.get(path, params) as response:
            body = _read(response, MAXIMUM_JSON_BYTES)
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise TrackingError(
                f"{self.address} does not answer like an MLflow tracking server; "
                "is MLFLOW_TRACKING_URI right?"
            )
        return content

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> requests.Response:
        """Ask, and ask again after faults that pass.

        Args:
            path: below the tracking URI, such as /api/2.0/mlflow/runs/get.
            params: the query.

        Returns:
            A success whose body is not read yet; the caller closes it.

        Raises:
            NotFoundError: the server says that the thing does not exist.
            TrackingError: anything else that is not a success.
        """
        for attempt in range(RETRIES + 1):
            try:
                response = self._ask(path, params)
                if response.status_code == 200:
                    return response
                with response:
                    text = _read(response, MAXIMUM_ERROR_BYTES).decode(errors="replace")
                problem = self._refusal(response.status_code, text)
                if response.status_code not in TRANSIENT or PROXY_IS_OFF in text:
                    raise problem
                pause = _retry_after(response)
            except (requests.ConnectionError, requests.Timeout) as error:
                problem, pause = self._explain(error), None
                if isinstance(error, requests.exceptions.SSLError):
                    break
            if attempt < RETRIES:
                pause = pause or BACKOFF_SECONDS * 2**attempt * random.uniform(1, 1.5)  # noqa: S311
                self.report(f"{problem}; trying again in {pause:.1f} s")
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
            raise TrackingError(f"cannot ask {self.address}: {one_line(error)}") from None
        return response

    def _refusal(self, status: int, text: str) -> TrackingError:
        """Say what an answer other than 200 means and how to mend it."""
        if 300 <= status < 400:
            return TrackingError(
                f"{self.address} redirects to another address (HTTP {status}); "
                "set MLFLOW_TRACKING_URI to the final address, because a login is not sent on"
            )
        if status == 401:
            return TrackingError(
                f"{self.address} refuses the login (HTTP 401); set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )
        if status == 403 and "Invalid Host header" in text:
            return TrackingError(
                f"{self.address} does not accept the name {self.netloc} (HTTP 403 Invalid Host "
                f"header); start it with --allowed-hosts {self.netloc}"
            )
        if status == 403:
            return TrackingError(
                f"{self.address} denies this login the access (HTTP 403); "
                "ask for READ permission on the registered model and its experiment"
            )
        if PROXY_IS_OFF in text:
            return TrackingError(
                f"{self.address} does not serve artifacts; start it with --serve-artifacts"
            )
        message = one_line(_message(text))
        # Of an alias that is not there, MLflow says that the request is invalid.
        no_alias = status == 400 and "alias" in message and "not found" in message
        if no_alias or (status == 404 and "RESOURCE_DOES_NOT_EXIST" in text):
            return NotFoundError(message)
        return TrackingError(f"{self.address} answers HTTP {status}" + (message and f": {message}"))

    def _explain(self, error: requests.RequestException) -> TrackingError:
        """Say why no answer came and how to mend it."""
        chain = _chain(error)
        if isinstance(error, requests.exceptions.SSLError):
            return TrackingError(
                f"the certificate of {self.address} is not trusted ({_tls_reason(chain)}); "
                "set MLFLOW_TRACKING_SERVER_CERT_PATH to the authority that signed it, "
                "or MLFLOW_TRACKING_INSECURE_TLS=true to skip the check"
            )
        if isinstance(error, requests.Timeout):
            return TrackingError(
                f"{self.address} did not answer in time; is it overloaded? "
                "MLFLOW_HTTP_REQUEST_TIMEOUT sets the seconds to wait"
            )
        if any(isinstance(link, NameResolutionError) for link in chain):
            return TrackingError(
                f"the host of {self.address} is unknown; is MLFLOW_TRACKING_URI spelled right?"
            )
        if any(isinstance(link, ConnectionRefusedError) for link in chain):
            return TrackingError(
                f"{self.address} refuses the connection; is the tracking server running, "
                "and MLFLOW_TRACKING_URI right?"
            )
        return TrackingError(f"the connection to {self.address} broke: {one_line(chain[-1])}")


def _read(response: requests.Response, limit: int) -> bytes:
    """Read a body up to a limit, because a server may send without end."""
    body = b""
    for chunk in response.iter_content(64 * 1024):
        body += chunk
        if len(body) > limit:
            break
    return body[:limit]


def _message(text: str) -> str:
    try:
        content = json.loads(text)
    except ValueError:
        return ""
    return str(content.get("message", "")) if isinstance(content, dict) else ""


def _tls_reason(chain: Sequence[BaseException]) -> str:
    reason = next(
        (link.verify_message for link in chain if isinstance(link, ssl.SSLCertVerificationError)),
        "",
    )
    return one_line(reason or chain[-1])


def _retry_after(response: requests.Response) -> float | None:
    """Take the server's word for the pause, up to half a minute."""
    value = response.headers.get("Retry-After", "")
    return min(float(value), 30.0) if value.isdecimal() else None


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return the error and all that it was raised from or carries as its reason."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
    return found
