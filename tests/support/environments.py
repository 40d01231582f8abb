"""Environments of their own for packages that do not go with those of the project.

They are below `.compat/`: the first run makes them with uv, and later runs use them again.
"""

import re
import subprocess
import sys
from pathlib import Path

from support import servers

UV = (sys.executable, "-m", "uv", "--quiet")
CACHE = servers.ROOT / ".compat"


def environment(*requirements: str) -> Path:
    """Make an environment, or find the one of an earlier run, and return its Python."""
    folder = CACHE / re.sub(r"[^a-z0-9.]+", "-", "_".join(requirements))
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        subprocess.run([*UV, "venv", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([*UV, "pip", "install", "--python", python, *requirements], check=True)
        (folder / ".installed").touch()
    return python
