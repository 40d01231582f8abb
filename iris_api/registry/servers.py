"""The servers of an import: the registry, the tracking server, and hosts of artifacts alone."""

from dataclasses import dataclass
from urllib.parse import unquote

from iris_api.errors import IrisError, one_line
from iris_api.registry.artifacts import is_plain, is_served
from iris_api.registry.client import MlflowServer
from iris_api.registry.error_messages import ARTIFACTS, REGISTRY
from iris_api.registry.logins import Address, split_login
from iris_api.settings import Settings

NEW_EXPERIMENT = "log and register the model again in a new experiment"

WITH_PROXY = (
    "start the tracking server with --serve-artifacts and without --default-artifact-root, so that "
    f"new experiments begin with mlflow-artifacts:/, and {NEW_EXPERIMENT}"
)


@dataclass(frozen=True)
class Servers:
    """The servers that an import may use.

    Attributes:
        tracking: Runs, and the files of locations without a host.
        registry: Registered models; the tracking server, unless MLFLOW_REGISTRY_URI is set.
        distant: The server of each allowed host of artifacts, by the host.
        workspace: The workspace that MLflow's client names in each request, if any.
    """

    tracking: MlflowServer
    registry: MlflowServer
    distant: dict[str, MlflowServer]
    workspace: str | None

    @classmethod
    def read(cls, settings: Settings) -> "Servers":
        """Take the servers from the settings and from MLflow's own variables.

        Raises:
            TrackingError: An address or a login is wrong.
        """
        address = Address.parse(settings.tracking_uri)
        registry = tracking = MlflowServer(address)
        if settings.registry_uri:
            other = Address.parse(settings.registry_uri, REGISTRY)
            registry = registry if other.url == address.url else MlflowServer(other)
        user, password = settings.artifact_username, settings.artifact_password.get_secret_value()
        login = (user, password) if user else None
        token = settings.artifact_token.get_secret_value() or None
        distant = {}
        for host in settings.artifact_hosts:
            # As MLflow's client does: the scheme and path are those of the tracking server.
            url = address.url.replace(f"//{address.host}", f"//{host}", 1)
            distant[host] = MlflowServer(Address(url, host, ARTIFACTS, login, token))
        return cls(tracking, registry, distant, settings.workspace.strip() or None)

    def with_files(self, host: str) -> MlflowServer:
        """Return the server of a location's host, which `locate` has allowed."""
        return self.distant[host] if host else self.tracking

    def locate(self, location: str) -> tuple[str, str]:
        """Return the host of a location, empty for the tracking server, and the path there.

        Raises:
            IrisError: No request may be sent there.
        """
        try:
            parts, login = split_login(location)
        except ValueError:
            raise IrisError(
                f"the version's location is not a plain path; {NEW_EXPERIMENT}"
            ) from None
        host, path = parts.netloc.lower(), parts.path.strip("/")
        place = one_line(f"{parts.scheme}://{host}{parts.path}" if host else location)
        if parts.scheme != "mlflow-artifacts":
            raise IrisError(
                f"the registry says that the files are at {place!r}, which no server passes on, "
                f"because the experiment was made without --serve-artifacts; {WITH_PROXY}"
            )
        if host == self.tracking.host.lower():
            host = ""
        if login or host not in {"", *self.distant}:
            raise IrisError(
                f"the version's files are at another host, {one_line(host)!r}; if you trust it, "
                f"set IRIS_ARTIFACT_HOSTS={one_line(host)}, and IRIS_ARTIFACT_USERNAME and "
                "IRIS_ARTIFACT_PASSWORD, or IRIS_ARTIFACT_TOKEN, if it asks for a login"
            )
        while path != unquote(path):  # as the proxy does: %20 in it stands for a space
            path = unquote(path)
        plain = all(is_plain(step) for step in path.split("/")) and is_served(path)
        if not plain or parts.query or parts.fragment:
            raise IrisError(
                f"the version's location {place!r} is not a plain path; {NEW_EXPERIMENT}"
            )
        return host, path
