"""What the container image is made of; `bentoml containerize` makes a Dockerfile of it."""

import shlex

from bentoml.images import Image

UV = """\
#!/bin/sh
set -e
tools=$(mktemp -d)
pip install --quiet --no-cache-dir --root-user-action ignore --target "$tools" uv==0.13.9
UV_NO_CACHE=1 "$tools/bin/uv" "$@"
rm -r "$tools"
cd /app/.venv/lib/python3.*/site-packages
find . -type d '(' -name test -o -name tests ')' -prune -exec rm -r {} +
find . -type f '(' -name '*.[ach]' -o -name '*.cpp' -o -name '*.py[ix]' -o -name '*.pxd' ')' -delete
cd onnxruntime 2> /dev/null || exit 0
rm -rf capi/libonnxruntime.so* transformers tools quantization
"""
"""Stands in for uv, and leaves out what neither a request nor an import reads: 175 MB of 620.

BentoML's Dockerfile makes the environment and installs the packages by two steps that call uv. What
a later step removes still takes its room in the layer of the earlier one, so it has to go in the
very step that brings it: uv itself, tests, C sources and stubs, and of ONNX Runtime the library
for programs in C, which its Python module has once more in itself, and the tools for other models.
"""


def image() -> Image:
    """Describe the image: Python, the locked packages and the Bento.

    Without a distro BentoML installs no system packages: a compiler and git, 590 MB.
    """
    script = " ".join(shlex.quote(line) for line in UV.splitlines())
    install = "/usr/local/bin/uv && chmod +x /usr/local/bin/uv"
    return Image(base_image="python:3.11-slim", distro="none").run(
        f"printf '%s\\n' {script} > {install}"
    )
