"""Explanations of a server's errors and of its silence: one line each, with the fix."""

import json
import os
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import NameResolutionError, ReadTimeoutError

from iris_api.errors import IrisError, one_line

PROXY_IS_OFF = "--no-serve-artifacts"
ONLY_ARTIFACTS = "--artifacts-only"
NO_WORKSPACES = "FEATURE_DISABLED"
STAYS = (PROXY_IS_OFF, ONLY_ARTIFACTS, NO_WORKSPACES)
"""Parts of MLflow's 500 and 503 answers about its own options: a retry is of no use."""

HUNG_UP = ("certificate required", "handshake failure", "eof occurred", "unknown ca")
"""OpenSSL's words for a server that ends the handshake, because it trusts no client certificate."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

NO_CERTIFICATE = (
    "{} asks for a client certificate, or broke the connection; "
    "set MLFLOW_TRACKING_CLIENT_CERT_PATH to a file with the certificate and its key"
)
"""The message for both ways in which a server rejects a client without a certificate."""


@dataclass(frozen=True)
class Variables:
    """The environment variables of a kind of server, for messages.

    Attributes:
        address: The name of the variable that says where the server is.
        prefix: How the names of the login's variables begin.
        own_login: Whether the server must not get the login of the tracking server.
    """

    address: str
    prefix: str = "MLFLOW_TRACKING"
    own_login: bool = False

    @property
    def login(self) -> str:
        """How to set a login."""
        return f"{self.prefix}_USERNAME and {self.prefix}_PASSWORD, or {self.prefix}_TOKEN"


TRACKING = Variables("MLFLOW_TRACKING_URI")
REGISTRY = Variables("MLFLOW_REGISTRY_URI")
ARTIFACTS = Variables("IRIS_ARTIFACT_HOSTS", "IRIS_ARTIFACT", own_login=True)


class TrackingError(IrisError):
    """The server cannot be reached, rejects the request, or does not answer like MLflow."""

    transient = True


class NotFoundError(TrackingError):
    """The server answers that there is no such thing."""


class NoEndpointError(TrackingError):
    """The server answers 404 and does not say that the thing is missing."""


class DeniedError(TrackingError):
    """The server answers that the login is known and does not suffice."""


class BrokenAnswerError(TrackingError):
    """The answer stopped too early, or the server failed inside; the request may be to blame."""


def is_transient(error: requests.RequestException) -> bool:
    """Return whether a retry may help."""
    stays = (requests.exceptions.SSLError, requests.exceptions.InvalidSchema)
    kinds = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, kinds) and not isinstance(error, stays)


def explain_status(
    address: str, status: int, text: str, variables: Variables, *, login: bool
) -> TrackingError:
    """Explain an answer other than 200.

    Args:
        address: The address of the server, without a login.
        status: The HTTP status.
        text: The beginning of the body.
        variables: The variables that lead to this server.
        login: Whether a login was sent with the request.
    """
    if 300 <= status < 400:
        return TrackingError(
            f"{address} redirects to another address (HTTP {status}); "
            f"set {variables.address} to the final address, because a login is not sent on"
        )
    if status == 401:
        return TrackingError(
            f"{address} {'rejects the login' if login else 'asks for a login'} (HTTP 401); "
            f"set {variables.login}"
        )
    if status == 403 and "Invalid Host header" in text:
        host = urlsplit(address).netloc
        return TrackingError(
            f"{address} does not accept the name {host} (HTTP 403 Invalid Host "
            f"header); start it with --allowed-hosts {host}"
        )
    if status == 403:
        return DeniedError(
            f"{address} denies this login the access (HTTP 403); "
            "ask for READ permission on the registered model and its experiment"
        )
    message = one_line(_message(text))
    if by_option := _explain_option(address, text, variables):
        return by_option
    # For an alias that does not exist, MLflow answers that the request is invalid.
    no_alias = status == 400 and "alias" in message and "not found" in message
    if no_alias or (status == 404 and "RESOURCE_DOES_NOT_EXIST" in text):
        return NotFoundError(message or f"{address} answers HTTP {status} and no more")
    said = f"{address} answers HTTP {status}" + (message and f" ({message})")
    if status == 429:
        return TrackingError(f"{said}: too many requests; import again later")
    if status >= 500:
        kind = BrokenAnswerError if status == 500 else TrackingError
        return kind(f"{said}; import again later, or read the server's log")
    kind = NoEndpointError if status == 404 else TrackingError
    return kind(f"{said}; is {variables.address} right?")


def _explain_option(address: str, text: str, variables: Variables) -> TrackingError | None:
    """Explain an answer that an option of the server causes."""
    if PROXY_IS_OFF in text:
        return TrackingError(f"{address} does not serve artifacts; start it with --serve-artifacts")
    if ONLY_ARTIFACTS in text:
        return TrackingError(
            f"{address} was started with --artifacts-only and has no registry; set "
            f"{variables.address} to the tracking server, and IRIS_ARTIFACT_HOSTS to this host"
        )
    if NO_WORKSPACES in text:
        return TrackingError(f"{address} has no workspaces; unset MLFLOW_WORKSPACE")
    return None


def explain_no_answer(
    address: str, error: requests.RequestException, variables: Variables
) -> TrackingError:
    """Explain why no answer came, or only a part of one."""
    chain = _chain(error)
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_failure(address, chain)
    if address.startswith("https:") and _has(chain, ConnectionResetError, BrokenPipeError):
        return TrackingError(NO_CERTIFICATE.format(address))
    if isinstance(error, requests.exceptions.InvalidHeader):
        return TrackingError(
            "the login has characters that no HTTP header can carry, such as a line break; "
            f"check {variables.login.replace(' and', ',').replace(', or', ' and')}"
        )
    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.InvalidProxyURL):
        return TrackingError(
            f"the HTTP proxy for {address} does not answer; set HTTP_PROXY and "
            "HTTPS_PROXY right, or add the server's host to NO_PROXY"
        )
    if _has(chain, requests.Timeout, ReadTimeoutError):
        return TrackingError(
            f"{address} did not answer in time; is it overloaded? "
            "MLFLOW_HTTP_REQUEST_TIMEOUT sets the seconds to wait"
        )
    if _has(chain, NameResolutionError):
        return TrackingError(
            f"the host of {address} is unknown; is {variables.address} spelled right?"
        )
    if _has(chain, ConnectionRefusedError):
        # BentoML's images have this variable.
        is_own = "BENTO_PATH" in os.environ and urlsplit(address).hostname in LOOPBACK
        itself = " In a container this address is the container itself." if is_own else ""
        return TrackingError(
            f"{address} refuses the connection; is the server running, "
            f"and {variables.address} right?{itself}"
        )
    return BrokenAnswerError(
        f"the connection to {address} broke ({one_line(chain[-1])}); "
        "import again, or read the server's log"
    )


def _tls_failure(address: str, chain: list[BaseException]) -> TrackingError:
    cause = next((link for link in chain if isinstance(link, ssl.SSLError)), chain[-1])
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TrackingError(
            f"the certificate of {address} is not trusted ({one_line(cause.verify_message)}); "
            "set MLFLOW_TRACKING_SERVER_CERT_PATH to the authority that signed it, "
            "or MLFLOW_TRACKING_INSECURE_TLS=true to skip the check"
        )
    reason = one_line(cause)
    if "WRONG_VERSION_NUMBER" in reason:
        plain = "http:" + address.removeprefix("https:")
        return TrackingError(f"the server speaks plain HTTP at this address; try {plain}")
    if any(part in reason.lower() for part in HUNG_UP):
        return TrackingError(NO_CERTIFICATE.format(address))
    return TrackingError(
        f"no TLS connection to {address} ({reason}); is the server's address https, and do "
        "MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_CLIENT_CERT_PATH name PEM files?"
    )


def _message(text: str) -> str:
    """Return the reason that an answer gives: MLflow's JSON, or plain text, but no page."""
    try:
        return str(json.loads(text)["message"])
    except (LookupError, TypeError, RecursionError):
        return ""
    except ValueError:
        return "" if text.lstrip().startswith(("<", "{", "[")) else text


def _has(chain: list[BaseException], *kinds: type[BaseException]) -> bool:
    return any(isinstance(link, kinds) for link in chain)


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return the error, and each error that it was raised from or has as its reason."""
    found: list[BaseException] = []
    # What was explained before is no reason of this one, although it may be its context.
    while error is not None and error not in found and not isinstance(error, IrisError):
        found.append(error)
        inner = getattr(error, "reason", None) or next(
            (value for value in error.args if isinstance(value, BaseException)), None
        )
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
    return found
