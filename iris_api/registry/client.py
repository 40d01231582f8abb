"""Requests to one MLflow server: a registry, a tracking server or one of artifacts alone."""

import logging
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias, TypeVar

import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import http_request
from pydantic import TypeAdapter, ValidationError

from iris_api.errors import IrisError, one_line
from iris_api.registry.error_messages import (
    STAYS,
    BrokenAnswerError,
    TrackingError,
    explain_no_answer,
    explain_status,
    is_transient,
)
from iris_api.registry.logins import Address

logger = logging.getLogger(__name__)

T = TypeVar("T")
Query: TypeAlias = Mapping[str, object]

RETRIES = 3
"""Attempts after the first one. MLflow's default of 7 with back-off is four silent minutes."""

BACKOFF_SECONDS = 0.5
"""The first pause; each next one is twice as long, with up to half of it added at random."""

MAXIMUM_PAUSE_SECONDS = 30.0
"""Longest pause that a server may ask for with `Retry-After`."""

ANSWER_SECONDS = 10
"""Time for an answer of the REST API to begin, unless MLFLOW_HTTP_REQUEST_TIMEOUT is set."""

FILE_SECONDS = 30
"""The same for a file, which the server may have to fetch from a bucket before."""

MAXIMUM_JSON_BYTES = 8 * 1024**2
"""A listing of a thousand files has 100 kB."""

MAXIMUM_ERROR_BYTES = 64 * 1024

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses after which a request is sent again."""


class MlflowServer:
    """Requests to one server, and to no other host.

    Attributes:
        retry_seconds: No request is sent again when more time than this has passed since its first
            attempt.
        address: The address, without a login.

    Raises:
        TrackingError: A variable of MLflow is wrong.
    """

    def __init__(self, address: Address) -> None:
        self.retry_seconds = math.inf
        self.address = address.url
        self.host = address.host
        self._variables = address.variables
        self._credentials = address.credentials()

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
            f"is {self._variables.address} right?"
        )

    def get(
        self,
        path: str,
        params: Query,
        receive: Callable[[requests.Response], T],
        seconds: float = ANSWER_SECONDS,
    ) -> T:
        """Send a GET request, and retry it after transient failures; each retry is logged.

        Args:
            path: The path below the server's address, such as /api/2.0/mlflow/runs/get.
            params: The query.
            receive: Reads the body of a success and returns the result; called once an attempt.
            seconds: Time for the answer to begin.

        Raises:
            NotFoundError: The server says that the thing does not exist.
            TrackingError: The answer is anything else than a success.
        """
        return self._request(partial(self._send, path, "GET", seconds, params=params), receive)

    def post(self, path: str, content: Mapping[str, object]) -> None:
        """Send a POST request that may be repeated; else as `get`."""
        send = partial(self._send, path, "POST", ANSWER_SECONDS, json=content)
        self._request(send, lambda _response: None)

    def _request(
        self,
        send: Callable[[], requests.Response],
        receive: Callable[[requests.Response], T],
    ) -> T:
        began = time.monotonic()
        problem: TrackingError
        for attempt in range(RETRIES + 1):
            pause = BACKOFF_SECONDS * 2**attempt * random.uniform(1, 1.5)  # noqa: S311
            try:
                with send() as response:
                    if response.status_code == 200:
                        return receive(response)
                    text = _read(response, MAXIMUM_ERROR_BYTES).decode(errors="replace")
                    pause = _retry_after(response, pause)
                status = response.status_code
                login = "Authorization" in response.request.headers
                problem = explain_status(self.address, status, text, self._variables, login=login)
                if status not in TRANSIENT or any(part in text for part in STAYS):
                    raise problem
            except BrokenAnswerError as error:
                problem = error
            except requests.RequestException as error:
                problem = explain_no_answer(self.address, error, self._variables)
                if not is_transient(error):
                    raise problem from None
            if attempt == RETRIES or time.monotonic() - began + pause > self.retry_seconds:
                break
            logger.warning("%s; trying again in %.1f s", problem, pause)
            time.sleep(pause)
        raise problem

    def _send(
        self, path: str, method: str, seconds: float, **content: Mapping[str, object]
    ) -> requests.Response:
        try:
            response: requests.Response = http_request(
                self._credentials,
                path,
                method,
                **content,
                stream=True,
                # A redirect could carry the login to another host.
                allow_redirects=False,
                max_retries=0,
                retry_codes=(),
                raise_on_status=False,
                respect_retry_after_header=False,
                timeout=None if "MLFLOW_HTTP_REQUEST_TIMEOUT" in os.environ else seconds,
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


def _read(response: requests.Response, limit: int) -> bytes:
    """Read a body up to a limit, because a server may send without end."""
    body = b""
    for chunk in response.iter_content(64 * 1024):
        body += chunk
        if len(body) > limit:
            break
    return body[:limit]


def _retry_after(response: requests.Response, otherwise: float) -> float:
    """Return the pause that the server asks for, in seconds, within reason."""
    value = response.headers.get("Retry-After", "")
    is_number = value.isascii() and value.isdecimal()
    return min(float(value), MAXIMUM_PAUSE_SECONDS) if is_number else otherwise
