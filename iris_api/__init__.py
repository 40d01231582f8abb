"""From a registered scikit-learn model to an HTTP service; `docs/architecture.md` has the map."""

import os

__version__ = "0.1.0"

# ONNX Runtime reports its use to its maker from version 1.29 on, unless this is set before it is
# loaded (Privacy.md in its package). Every entry point loads this package first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
