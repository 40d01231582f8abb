"""What a tracking server's error or silence means: one line that says how to fix it."""

import json
import ssl

import requests
from urllib3.exceptions import NameResolutionError, ReadTimeoutError

from iris_api.errors import IrisError, one_line

PROXY_IS_OFF = "--no-serve-artifacts"
"""Part of MLflow's 503 answer while the artifact proxy is switched off: a retry is of no use."""

HUNG_UP = ("certificate required", "handshake failure", "eof occurred", "unknown ca")
"""OpenSSL's words for a server that ends the handshake, because it trusts no client certificate."""

NO_CLIENT_CERTIFICATE = (
    "{} asks for a client certificate, or broke the connection; "
    "set MLFLOW_TRACKING_CLIENT_CERT_PATH to a file with the certificate and its key"
)


class TrackingError(IrisError):
    """The server cannot be reached, rejects the request, or does not answer like MLflow."""

    transient = True


class NotFoundError(TrackingError):
    """The server answers that there is no such thing."""


def is_transient(error: requests.RequestException) -> bool:
    """Return whether a retry may help."""
    stays = (requests.exceptions.SSLError, requests.exceptions.InvalidSchema)
    kinds = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, kinds) and not isinstance(error, stays)


def explain_status(address: str, status: int, text: str, *, login: bool) -> TrackingError:
    """Explain an answer other than 200.

    Args:
        address: The server's, without a login.
        status: The HTTP status.
        text: The beginning of the body.
        login: Whether a login was sent with the request.
    """
    message = one_line(_message(text))
    # For an alias that does not exist, MLflow answers that the request is invalid.
    no_alias = status == 400 and "alias" in message and "not found" in message
    if no_alias or (status == 404 and "RESOURCE_DOES_NOT_EXIST" in text):
        return NotFoundError(message or f"{address} answers HTTP {status} and no more")
    host = address.partition("://")[2].partition("/")[0]
    said = f"answers HTTP {status}" + (message and f" ({message})")
    if 300 <= status < 400:
        problem = (
            f"redirects to another address (HTTP {status}); "
            "set MLFLOW_TRACKING_URI to the final address, because a login is not sent on"
        )
    elif status == 401:
        problem = (
            f"{'refuses the login' if login else 'asks for a login'} (HTTP 401); set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    elif status == 403 and "Invalid Host header" in text:
        problem = (
            f"does not accept the name {host} (HTTP 403 Invalid Host header); "
            f"start it with --allowed-hosts {host}"
        )
    elif status == 403:
        problem = (
            "denies this login the access (HTTP 403); "
            "ask for READ permission on the registered model and its experiment"
        )
    elif PROXY_IS_OFF in text:
        problem = "does not serve artifacts; start it with --serve-artifacts"
    elif status == 429:
        problem = f"{said}: too many requests; import again later"
    elif status >= 500:
        problem = f"{said}; import again later, or look into the server's log"
    else:
        problem = f"{said}; is MLFLOW_TRACKING_URI right?"
    return TrackingError(f"{address} {problem}")


def explain_no_answer(address: str, error: requests.RequestException) -> TrackingError:
    """Explain why no answer came, or only a part of one."""
    chain = _chain(error)

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if isinstance(error, requests.exceptions.SSLError):
        problem = _explain_tls(address, chain)
    elif address.startswith("https:") and has(ConnectionResetError, BrokenPipeError):
        problem = NO_CLIENT_CERTIFICATE.format(address)
    elif isinstance(error, requests.exceptions.InvalidHeader):
        problem = (
            "the login has characters that no HTTP header can carry, such as a line break; "
            "look at MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN"
        )
    elif isinstance(error, requests.exceptions.ProxyError | requests.exceptions.InvalidProxyURL):
        problem = (
            f"the HTTP proxy on the way to {address} does not answer; set HTTP_PROXY and "
            "HTTPS_PROXY right, or add the server's host to NO_PROXY"
        )
    elif isinstance(error, requests.Timeout) or has(ReadTimeoutError):
        problem = (
            f"{address} did not answer in time; is it overloaded? "
            "MLFLOW_HTTP_REQUEST_TIMEOUT sets the seconds to wait"
        )
    elif has(NameResolutionError):
        problem = f"the host of {address} is unknown; is MLFLOW_TRACKING_URI spelled right?"
    elif has(ConnectionRefusedError):
        problem = (
            f"{address} refuses the connection; is the tracking server running, "
            "and MLFLOW_TRACKING_URI right?"
        )
    else:
        problem = (
            f"the connection to {address} broke ({one_line(chain[-1])}); "
            "import again, or look into the server's log"
        )
    return TrackingError(problem)


def _explain_tls(address: str, chain: list[BaseException]) -> str:
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {address} is not trusted ({one_line(link.verify_message)}); "
                "set MLFLOW_TRACKING_SERVER_CERT_PATH to the authority that signed it, "
                "or MLFLOW_TRACKING_INSECURE_TLS=true to skip the check"
            )
    reason = one_line(next((link for link in chain if isinstance(link, ssl.SSLError)), chain[-1]))
    if "WRONG_VERSION_NUMBER" in reason:
        plain = "http:" + address.removeprefix("https:")
        return f"the server speaks plain HTTP at this address; try {plain}"
    if any(part in reason.lower() for part in HUNG_UP):
        return NO_CLIENT_CERTIFICATE.format(address)
    return (
        f"no TLS connection to {address} ({reason}); is the server's address https, and do "
        "MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_CLIENT_CERT_PATH name PEM files?"
    )


def _message(text: str) -> str:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return str(content.get("message", "")) if isinstance(content, dict) else ""


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return the error, and each error that it was raised from or has as its reason."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        inner = getattr(error, "reason", None) or next(
            (value for value in error.args if isinstance(value, BaseException)), None
        )
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
    return found
