"""A check, at the start of the service, of the names that it uses of other packages' internals.

They may change in any release. The pins in `pyproject.toml` keep such a release out; where it is
installed all the same, the service ends with one line, instead of workers that fail in a row.
"""

import dis
import importlib
import inspect
from importlib.metadata import version
from typing import Any

from iris_api.errors import IrisError

_CONNECTION = "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol"
_CYCLE = "uvicorn.protocols.http.httptools_impl:RequestResponseCycle"
_METRICS = "bentoml._internal.server.http.instruments:RunnerTrafficMetricsMiddleware"

NAMES = {
    "bentoml": {
        "_bentoml_sdk.service:Service": "to_asgi config bento",
        "bentoml._internal.configuration.containers:BentoMLContainer": "model_store",
        "bentoml._internal.configuration.helpers:expand_env_var": "",
        "bentoml._internal.models.model:ModelInfo": "creation_time dump from_yaml_file metadata "
        "tag",
        "bentoml._internal.models.model:ModelOptions": "",
        "bentoml._internal.models.model:ModelStore": "_path",
        "bentoml._internal.resource:NvidiaGpuResource": "from_system",
        "bentoml._internal.server.http.access:AccessLogMiddleware": "app",
        _METRICS: "_setup skip_paths metrics_request_total metrics_request_duration "
        "metrics_request_in_progress metrics_last_request_timestamp",
    },
    "uvicorn": {
        "uvicorn:Config": "loaded_app encoded_headers http_protocol_class ws_protocol_class is_ssl "
        "timeout_keep_alive",
        "uvicorn:Server": "handle_exit server_state should_exit config",
        "uvicorn.server:ServerState": "connections default_headers",
        _CONNECTION: "_start_asgi_task _unsupported_upgrade_warning access_log connection_made "
        "connections cycle data_received expect_100_continue headers on_headers_complete "
        "on_message_complete parser pipeline scope send_400_response shutdown "
        "timeout_keep_alive timeout_keep_alive_handler timeout_keep_alive_task transport "
        "url",
        _CYCLE: "body default_headers disconnected flow keep_alive more_body on_response "
        "response_complete response_started scope transport waiting_for_100_continue",
        "uvicorn.protocols.http.httptools_impl:STATUS_LINE": "",
        "uvicorn.protocols.http.flow_control:FlowControl": "write_paused",
    },
    "kantoku": {
        "circus.watcher:Watcher": "_stop get_active_processes initialize is_stopped is_stopping "
        "manage_processes numprocesses processes respawn sockets",
        "circus.controller:Controller": "check_delay",
    },
    "starlette": {
        "starlette.applications:Starlette": "router user_middleware",
        "starlette.routing:Router": "redirect_slashes",
    },
    "prometheus-client": {
        "prometheus_client:Histogram": "_buckets _sum _upper_bounds",
        "prometheus_client.multiprocess:MultiProcessCollector": "collect merge",
    },
}
"""The classes and functions of each package, and the attributes of each class, that are used."""


def check_names() -> None:
    """Check that every name is there.

    Raises:
        IrisError: One is not; the message names it, its package and the version.
    """
    for package, owners in NAMES.items():
        for path, attributes in owners.items():
            for name in ("", *attributes.split()):
                if not _has(path, name):
                    missing = f"{package} {version(package)} has no {path}:{name}".rstrip(":")
                    missing = missing.replace(":", ".")
                    raise IrisError(f"{missing}; install the version in requirements.txt")


def _has(path: str, name: str) -> bool:
    module, _, owner = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), owner)
    except (ImportError, AttributeError):
        return False
    return not name or hasattr(found, name) or _assigns(found, name)


def _assigns(owner: Any, name: str) -> bool:
    """Return whether a method of a class assigns an attribute of its instances."""
    methods = (
        inspect.unwrap(value)
        for cls in getattr(owner, "__mro__", ())
        for value in vars(cls).values()
    )
    return any(
        instruction.opname == "STORE_ATTR" and instruction.argval == name
        for method in methods
        if inspect.isfunction(method) and name in method.__code__.co_names
        for instruction in dis.get_instructions(method)
    )
