"""The README and docs/ as the tests read them: pages, sections, tables, commands and links."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from support import servers

ORDER = ("README.md", "docs/importing.md", "docs/http.md")
"""The pages whose commands build on each other, in this order. Those of the others come after."""

NAMES = (
    *ORDER,
    *sorted(
        name
        for path in servers.ROOT.glob("docs/*.md")
        if (name := path.relative_to(servers.ROOT).as_posix()) not in ORDER
    ),
)
PAGES = {name: (servers.ROOT / name).read_text("utf-8") for name in NAMES}
"""The text of each page, by its path in the project."""

EVERYTHING = "\n".join(PAGES.values())


class Step(NamedTuple):
    """A command of a console block and the output that is printed below it."""

    page: str
    command: str
    output: str


def steps(pages: Iterable[str]) -> list[Step]:
    """Read the console blocks of pages: a command after `$`, its continued lines, its output."""
    command = r"^\$ ((?:.*\\\n)*.*?(?:<<'EOF'\n(?:.*\n)*?EOF)?)\n((?:(?!\$ ).*\n)*)"
    return [
        Step(page, *found)
        for page in pages
        for block in re.findall(r"```console\n(.*?)```", PAGES[page], re.DOTALL)
        for found in re.findall(command, block, re.MULTILINE)
    ]


def shell_commands(text: str) -> list[str]:
    """Return the commands of the sh blocks, each in one line and without its comment."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = re.sub(r" *\\\n *", " ", blocks).splitlines()
    return [line.split(" #")[0].rstrip() for line in lines]


def section(page: str, heading: str) -> str:
    """Return what is below a heading of a page, up to the next heading of its level."""
    level, text = re.split(rf"^(##+) {re.escape(heading)}\n", PAGES[page], flags=re.MULTILINE)[1:]
    return re.split(rf"^#{{2,{len(level)}}} ", text, flags=re.MULTILINE)[0]


def table(text: str, first: str) -> list[list[str]]:
    """Return the cells of each row of the tables whose first column has this heading."""
    rows: list[list[str]] = []
    for found in re.findall(
        rf"^\| *{re.escape(first)} *\|.*\n\| ?-.*\n((?:\|.*\n)+)", text, re.MULTILINE
    ):
        lines = found.splitlines()
        rows += [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]
    return rows


def code(text: str) -> list[str]:
    """Return what is in backticks, in one line each."""
    return re.findall(r"`([^`\n]+)`", text)


def anchors(text: str) -> set[str]:
    """Return the anchors that a host of repositories makes of a page's headings."""
    headings = re.findall(r"^##* (.+)$", _without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def links(text: str) -> list[tuple[str, str]]:
    """Return the path and the anchor, which may be empty, of each link within the project."""
    found = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", _without_blocks(text))
    return [(path, anchor) for path, anchor in found if not path.startswith(("http:", "https:"))]


def _without_blocks(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)
