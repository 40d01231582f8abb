"""The README and docs/ are right: their tables fit the code, and their links lead somewhere."""

import ast
import errno
import math
import os
import re
import tomllib

import pytest
from support import documentation, servers

from iris_api.serving import openapi
from iris_api.settings import Settings
from iris_api.telemetry.instruments import REASONS, RESULTS

CODE = [
    *(servers.ROOT / name for name in ("service.py", "import_model.py")),
    *servers.ROOT.glob("iris_api/**/*.py"),
]
README = documentation.PAGES["README.md"]
BENCHMARK = (servers.ROOT / "benchmarks" / "RESULTS.md").read_text("utf-8")


def test_readme_is_short() -> None:
    """The README introduces, and leads to the other pages."""
    assert len(README.splitlines()) <= 220
    assert {name for name in documentation.NAMES if f"]({name})" not in README} == {"README.md"}


@pytest.mark.parametrize("name", [*documentation.NAMES, "CONTRIBUTING.md", "SECURITY.md"])
def test_links(name: str) -> None:
    """Each link within the project leads to a file that exists, and to a heading in it."""
    text = (servers.ROOT / name).read_text("utf-8")
    broken = []
    for path, anchor in documentation.links(text):
        target = (servers.ROOT / name).parent / path if path else servers.ROOT / name
        if not target.exists():
            broken.append(path)
        elif anchor and anchor not in documentation.anchors(target.read_text("utf-8")):
            broken.append(f"{path}#{anchor}")

    assert broken == []


def test_deployment_in_the_readme() -> None:
    """Each command to deploy is one of the page of deployment, whose commands are tested."""
    commands = documentation.shell_commands(documentation.section("README.md", "Deploy it"))

    tested = documentation.shell_commands(documentation.PAGES["docs/deployment.md"])
    assert len(commands) == 9
    assert set(commands) <= set(tested)


def test_settings_are_documented() -> None:
    """Each of our variables is in the table with its default, and no other of ours is there."""
    rows = documentation.table(documentation.PAGES["docs/configuration.md"], "variable")
    documented = {names.strip("`"): default.strip("`") for names, default, *_ in rows}

    ours = {str(field.alias): name for name, field in Settings.model_fields.items()}
    assert ours.keys() == {name for name in documented if name.startswith("IRIS_") or name in ours}
    for variable, name in ours.items():
        text, default = documented[variable], getattr(Settings(), name)
        if default is None or default == "":
            assert not re.search(r"\d", text), variable  # in words, or not at all
        else:
            assert getattr(Settings.model_validate({variable: text}), name) == default, variable
    for names, default, *_ in documentation.table(README, "variable"):
        assert documented[names.strip("`")] == default.strip("`"), names


def test_variables_are_documented() -> None:
    """Each variable that a page names is in the table of all variables."""
    rows = documentation.table(documentation.PAGES["docs/configuration.md"], "variable")
    documented = {name for names, *_ in rows for name in documentation.code(names)}

    named = re.findall(r"`((?:IRIS|MLFLOW|BENTOML)_[A-Z_]+)[`=]", documentation.EVERYTHING)
    assert set(named) - documented == set()


def test_endpoints_are_documented() -> None:
    """Each described route is in the table, and the table has no other but the document's own."""
    rows = documentation.table(documentation.PAGES["docs/http.md"], "call")
    documented = {name for calls, _ in rows for name in documentation.code(calls)}

    described = {
        f"{method.upper()} {path}"
        for path, operations in openapi.document("", "", None, [])["paths"].items()
        for method in operations
    }
    assert documented == described | {"GET /docs.json", "GET /docs", "GET /"}


def test_errors_are_documented() -> None:
    """Each status of an error is in the table."""
    rows = documentation.table(documentation.PAGES["docs/http.md"], "status")

    assert {int(status) for status, _ in rows} == set(openapi.ERRORS)


def test_reasons_are_documented() -> None:
    """Each reason of a rejection is listed, and is in the runbook of the alert that counts it."""
    listed, results = re.findall(
        r"A `reason` is one of (.*?); a `result` is (.*?)\.",
        documentation.PAGES["docs/metrics.md"],
        re.DOTALL,
    )[0]
    runbook = documentation.section("docs/runbooks.md", "IrisApiRefusalsRising")

    assert set(documentation.code(listed)) == set(REASONS)
    assert set(documentation.code(results)) == set(RESULTS)
    # Requests without a model have an alert of their own.
    assert set(re.findall(r"`([a-z_]+)`", runbook)) == set(REASONS) - {"no_model"}


def test_log_messages_are_documented() -> None:
    """A message that is logged as a problem is in a table, up to its first variable part."""
    texts = [
        text
        for path in CODE
        for text in re.findall(
            r'logger\.(?:warning|error|critical)\(\s*"([^%"].*?)[:;,%"]', path.read_text("utf-8")
        )
    ]
    rows = documentation.table(documentation.EVERYTHING, "message")
    documented = " ".join(messages for messages, _ in rows)

    assert len(texts) > 8
    assert [text for text in texts if text.strip() not in documented] == []


def test_errors_of_the_registry_are_documented() -> None:
    """Each message about the tracking server is in a table, up to its first mark."""
    file = servers.ROOT / "iris_api" / "registry" / "error_messages.py"
    messages = [
        _text(call.args[0])
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "TrackingError"
    ]
    rows = documentation.table(documentation.EVERYTHING, "message")
    documented = " ".join(messages for messages, _ in rows)

    begun = [re.split(r"[;:,?(]", message.removeprefix("…"))[0].strip(" …") for message in messages]
    assert len(begun) > 10
    assert [part for part in begun if part not in documented] == []


def _text(node: ast.AST) -> str:
    """Return the text of a string in the code, with … for what varies."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(
        part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "…"
        for part in parts
    )


def test_documented_messages_exist() -> None:
    """Each constant part of a message in the tables is in a string of the code."""
    rows = documentation.table(documentation.EVERYTHING, "message")
    parts = [
        part.strip(" ;:,'")
        for messages, _ in rows
        for message in documentation.code(messages)
        for part in message.split("…")
        if not message.startswith(("error: IRIS_", "IRIS_"))  # pydantic's
    ]
    systems = {os.strerror(code) for code in (errno.ENOSPC, errno.EACCES, errno.EROFS)}
    strings = "\n".join(
        _text(node)
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant | ast.JoinedStr)
    )

    assert len(parts) > 30
    assert [part for part in parts if part not in strings and part not in systems] == []


def test_damaged_entries_are_removed_by_a_command_that_can() -> None:
    """No page sends anyone to BentoML's command, which fails where an entry is damaged."""
    assert "bentoml models delete" not in documentation.EVERYTHING


def test_architecture_is_documented() -> None:
    """The page has each package, the layers of the import rules, and files and types that exist."""
    page_name = "docs/architecture.md"
    page = documentation.PAGES[page_name]
    packages = {path.parent for path in servers.ROOT.glob("iris_api/*/__init__.py")}
    answers = documentation.table(page, "question")

    documented = {name.strip("`") for name, _ in documentation.table(page, "package")}
    assert documented == {f"{path.relative_to(servers.ROOT).as_posix()}/" for path in packages}
    assert len(answers) == 6
    project = tomllib.loads((servers.ROOT / "pyproject.toml").read_text("utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    assert "\n".join(re.sub(" [|:] ", " · ", layer) for layer in layers) in page
    code = "\n".join(path.read_text("utf-8") for path in CODE)
    spine = re.findall(r"`([A-Z]\w+)`", documentation.section(page_name, "The typed spine"))
    assert [name for name in spine if f"\nclass {name}" not in code] == []
    folders = "iris_api|docs|deploy|prometheus|benchmarks|tests|.ci"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", documentation.EVERYTHING)
    assert [name for name in named if not (servers.ROOT / name).exists()] == []


def _measured(peer: str, *measures: str) -> list[str]:
    """Return values of a peer for the logistic regression; both are named by their beginnings."""
    logistic = BENCHMARK.split("\n## Logistic\n")[1]
    heads = next(line for line in logistic.splitlines() if line.startswith("|")).split(" | ")[1:]
    table = documentation.table(logistic, "")
    cells = next(cells for name, *cells in table if name.startswith(peer))
    places = [next(n for n, head in enumerate(heads) if head.startswith(m)) for m in measures]
    return [cells[place] for place in places]


def test_speed_is_that_of_the_benchmark() -> None:
    """The three numbers of the README are those of the benchmark."""
    ratios = {name: ratio for name, ratio, *_ in documentation.table(BENCHMARK, "")}

    def ratio(peer: str) -> str:
        goal = f"requests/s at 16 : {peer}"
        return next(value for name, value in ratios.items() if name.startswith(goal))

    shown = [
        numbers for _, *numbers in documentation.table(README, "one worker, one row a request")
    ]
    measures = ("requests/s at 16", "p99 at 16", "memory")
    assert [ours for ours, _ in shown] == _measured("this service", *measures)
    assert re.findall(r"[\d.]+", " ".join(beside for _, beside in shown)) == [
        ratio("BentoML + "),
        ratio("FastAPI + scikit-learn"),
        *_measured("BentoML + ", *measures[1:]),
    ]


def test_sizing_is_that_of_the_benchmark() -> None:
    """The sizing has the numbers of the benchmark, and its pods follow from them."""
    sizing = documentation.PAGES["docs/sizing.md"]
    rows = documentation.table(sizing, "")
    known = {name: float(value.replace(" ", "")) for name, value, _ in rows}
    (share,) = (value for name, value in known.items() if name.startswith("share of its limit"))
    (pods,) = (
        cells for name, *cells in documentation.table(sizing, "requests/s") if name == "pods"
    )

    measures = ("requests/s at 16", "rows/s, bodies of 100", "memory", "start")
    ours = _measured("this service", *measures)
    assert [value for _, value, how in rows if how.startswith("RESULTS")] == ours
    of_a_pod = float(ours[0].replace(" ", "")) * share
    expected = [max(3, math.ceil(rate / of_a_pod)) for rate in (1_000, 100_000, 1_000_000)]
    assert [float(cell.replace(" ", "")) for cell in pods] == pytest.approx(expected, rel=0.05)
