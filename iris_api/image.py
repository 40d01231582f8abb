"""What the container image is made of; `bentoml containerize` turns it into a Dockerfile."""

import shlex

from bentoml.images import Image

BASE = "python:3.11-slim"

UV = """\
#!/bin/sh
# uv, fetched for one command and removed: 60 MB that the image has no use for.
set -e
tools=$(mktemp -d)
pip install --quiet --no-cache-dir --root-user-action ignore --target "$tools" uv
UV_NO_CACHE=1 "$tools/bin/uv" "$@"
rm -r "$tools"
cd /app/.venv/lib/python3.*/site-packages
# What neither a request nor an import reads: tests, sources and stubs of what is compiled, and
# of ONNX Runtime a second copy for programs in C and the tools for other kinds of models.
find . -type d -name tests -prune -exec rm -r {} +
rm -rf onnx/backend/test tornado/test
find . -type f -name '*.[ach]' -delete
find . -type f '(' -name '*.cpp' -o -name '*.py[ix]' -o -name '*.pxd' ')' -delete
rm -rf onnxruntime/capi/libonnxruntime.so*
rm -rf onnxruntime/transformers onnxruntime/tools onnxruntime/quantization
"""
"""Stands in for uv in BentoML's Dockerfile, which makes an environment and installs the packages.

What a later step removes still takes its room in the layer of the earlier one, so it has to go in
the very step that brings it.
"""


def image() -> Image:
    """Describe the image: a slim Python, no compiler, and the locked packages without ballast.

    Without a distro BentoML installs no system packages: a compiler and git, 590 MB.
    """
    lines = " \\\n    ".join(shlex.quote(line) for line in UV.splitlines())
    return Image(base_image=BASE, distro="none").run(
        f"printf '%s\\n' {lines} > /usr/local/bin/uv && chmod +x /usr/local/bin/uv"
    )
