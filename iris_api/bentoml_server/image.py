"""The container image; `bentoml containerize` makes a Dockerfile of its description.

Gains: 175 MB of 620, and 590 MB of system packages (tests: test_container.py).
No supported way: BentoML offers commands before and after the step that installs the packages, and
a later step cannot reduce the layer of an earlier one.
Relies on: BentoML's Dockerfile calling `uv` to create `/app/.venv` and to install the packages.
"""

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
"""A script that is installed as `uv`. It calls the real one, and removes what neither a request nor
an import reads: uv itself, tests, C sources, stubs, and of ONNX Runtime its C library, which its
Python module contains once more, and its tools for other models."""


def image() -> Image:
    """Describe the image: Python, the locked packages and the Bento."""
    script = " ".join(shlex.quote(line) for line in UV.splitlines())
    install = "/usr/local/bin/uv && chmod +x /usr/local/bin/uv"
    # Without a distro BentoML installs no system packages: a compiler and git.
    return Image(base_image="python:3.11-slim", distro="none").run(
        f"printf '%s\\n' {script} > {install}"
    )
