"""The pages in a real Chromium: predictions, errors, a hot swap, and accessibility."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Tracking
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC
from support import registered, servers, warm
from support.programs import program
from support.tables import loans, mixed

import iris_api

KEY = "first-key-hunter2"

Open = Callable[..., Page]
"""Opens a path of a service in a new context, with its options as keyword arguments."""

REJECTED = "the server responded with a status of 400"
"""Chromium logs each such answer as an error."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run one Chromium for all tests of this file."""
    path = program("chromium", "chromium")
    with sync_playwright() as playwright:
        # Chromium's sandbox does not run as root.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Open]:
    """Return a function that opens a page; what it logs or asks of other hosts fails the test."""
    contexts: list[BrowserContext] = []
    trouble: list[str] = []

    def open_page(url: str, path: str = "/", **options: Any) -> Page:
        def note_message(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"} and REJECTED not in message.text:
                trouble.append(message.text)

        def note_request(request: Request) -> None:
            if not request.url.startswith((url, "data:")):
                trouble.append(request.url)

        contexts.append(context := browser.new_context(**options))
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", note_message)
        page.on("request", note_request)
        page.goto(url + path)
        return page

    expect.set_options(timeout=20_000)
    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


def _row(page: Page) -> dict[str, Any]:
    """Return the row of the form: the body of the call that the page shows."""
    body = page.locator("#code").inner_text().split("-d '", 1)[1].removesuffix("'")
    found: dict[str, Any] = json.loads(body)
    return found


def _expect_answer(page: Page, label: str) -> None:
    """Wait for a label, and compare it and its probabilities with the service's answers."""
    expect(page.locator("#answer")).to_contain_text(label)
    url = page.url.rstrip("/")

    def is_shown() -> bool:
        row = _row(page)
        asked = httpx.post(url + "/predict", json=row).json()
        chances = httpx.post(url + "/predict_proba", json=row).json()
        texts = [f"{100 * chance:.1f}".removesuffix(".0") for chance in chances["probabilities"][0]]
        bars = [page.locator("#bars li", has_text=name).inner_text() for name in chances["classes"]]
        shown = [bar.split()[-1] for bar in bars]
        return bool(asked == {"predictions": [label]} and shown == [f"{text}%" for text in texts])

    servers.wait_for(is_shown, 20)  # the page asks once more for what changed in the meantime


def test_prediction_by_mouse(tab: Open, service: servers.Server) -> None:
    """The model's example is answered at once, and each movement of a slider again."""
    page = tab(service.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("IrisModel")
    expect(page.locator("#badges li")).to_have_text(["version 1", "Production", "@champion"])
    expect(page.locator("#summary")).to_contain_text("proved equal to scikit-learn on ")
    fields = page.locator(".field label")
    expect(fields).to_have_text(["sepal length", "sepal width", "petal length", "petal width"])
    _expect_answer(page, "setosa")

    for name in ("petal length", "petal width"):
        box = page.get_by_label(f"{name}, slider").bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] / 5, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()

    _expect_answer(page, "virginica")
    expect(page.locator("#place")).to_have_text("Every value lies within the training data.")
    page.get_by_role("button", name="Another example").click()
    expect(page.locator("#answer")).not_to_contain_text("virginica")


def test_prediction_by_keyboard(tab: Open, service: servers.Server) -> None:
    """Each control is reached by Tab, shows that it has the focus, and answers to keys."""
    page = tab(service.url)
    _expect_answer(page, "setosa")

    def reach(name: str) -> None:
        for _ in range(20):
            page.keyboard.press("Tab")
            focused = page.locator(":focus")
            assert focused.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
            if focused.evaluate("(node) => node.ariaLabel ?? node.labels?.[0]?.innerText") == name:
                return
        pytest.fail(f"Tab does not reach {name}")

    reach("petal length, slider")
    page.keyboard.press("End")
    reach("petal width")
    page.keyboard.press("Control+a")
    page.keyboard.type("2.2")

    _expect_answer(page, "virginica")
    expect(page.locator("#place")).to_contain_text("outside the training data: petal length")


def test_error(tab: Open, service: servers.Server) -> None:
    """The service's own words stand at the answer and at the field, until the value is right."""
    page = tab(service.url)
    field = page.get_by_label("sepal width", exact=True)
    for wrong in ("500", ""):
        field.fill(wrong)
        expect(page.locator("#answer")).to_contain_text("sepal_width: ")
        error = httpx.post(service.url + "/predict", json=_row(page)).json()

        expect(page.locator("#answer")).to_have_text(error["error"])
        expect(page.locator("#column-1-hint")).to_have_text(error["detail"][0]["msg"])
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(page.locator("#bars li")).to_have_count(0)
    field.fill("3.5")
    _expect_answer(page, "setosa")
    expect(field).to_have_attribute("aria-invalid", "false")


def test_shown_calls(tab: Open, service: servers.Server) -> None:
    """The calls to copy have the row of the form, and print its label."""
    page = tab(service.url, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_label("petal length", exact=True).fill("5.5")
    page.get_by_label("petal width", exact=True).fill("2.2")
    _expect_answer(page, "virginica")
    codes = {}
    for language in ("curl", "Python", "JavaScript"):
        page.locator("#languages label", has_text=language).click()
        page.locator("#copy").click()
        expect(page.locator("#copy")).to_have_text("Copied")
        codes[language] = page.locator("#code").inner_text()
        page.wait_for_function(
            "(code) => navigator.clipboard.readText().then((text) => text === code)",
            arg=codes[language],
        )

    commands = (["bash", "-c", codes["curl"]], [sys.executable, "-c", codes["Python"]])
    printed = [subprocess.check_output(command, text=True) for command in commands]
    code = codes["JavaScript"].replace("console.log", "return ")

    assert json.loads(printed[0]) == {"predictions": ["virginica"]}
    assert printed[1] == "virginica\n"
    assert page.evaluate(f"(async () => {{ {code} }})()") == "virginica"


AXE = resources.files("axe_playwright_python") / "axe.min.js"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(tab: Open, service: servers.Server, scheme: str) -> None:
    """axe-core finds no violation, with an error and a warning shown as well."""
    page = tab(service.url, color_scheme=scheme)
    page.get_by_label("petal width", exact=True).fill("9.9")
    expect(page.locator("#place")).to_contain_text("outside")
    page.get_by_label("sepal width", exact=True).fill("500")
    expect(page.locator("#answer")).to_contain_text("sepal_width")
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run()")

    violations = {
        rule["id"]: [node["html"] for node in rule["nodes"]] for rule in found["violations"]
    }
    assert violations == {}
    assert len(found["passes"]) > 15


def test_telephone(tab: Open, service: servers.Server) -> None:
    """On a telephone nothing is wider than the screen, and the answer stays in sight."""
    page = tab(service.url, viewport={"width": 360, "height": 640}, has_touch=True)
    _expect_answer(page, "setosa")
    page.get_by_label("petal width, slider").scroll_into_view_if_needed()

    assert page.evaluate("document.documentElement.scrollWidth") == 360
    expect(page.locator("#answer")).to_be_in_viewport()


@pytest.mark.thorough
def test_behind_a_path(tab: Open, service: servers.Server) -> None:
    """Both pages work where a proxy adds a prefix to their paths."""
    page = tab(service.url)
    page.route("**/models/iris/**", lambda route: _strip(route, "/models/iris"))

    page.goto(service.url + "/models/iris/")
    _expect_answer_at(page, service.url + "/models/iris/predict")
    page.get_by_role("link", name="API documents").click()
    _execute(page)
    expect(page.locator(".request-url")).to_contain_text("/models/iris/predict")
    page.get_by_role("link", name="the model's page").click()
    expect(page.locator("#answer")).to_contain_text("setosa")


def _strip(route: Route, prefix: str) -> None:
    route.continue_(url=route.request.url.replace(prefix, ""))


def _expect_answer_at(page: Page, url: str) -> None:
    expect(page.locator("#answer")).to_contain_text("setosa")
    expect(page.locator("#code")).to_contain_text(f"curl -s {url} ")


def _execute(page: Page) -> None:
    """Send the first example of /predict from the console."""
    page.locator("#operations-predictions-predict").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table td", has_text="200").first).to_be_visible()


def test_console(tab: Open, service: servers.Server) -> None:
    """The console has our descriptions, and neither a choice of servers nor locks without keys."""
    page = tab(service.url, "/docs")
    _execute(page)

    expect(page.locator(".opblock-tag small").first).to_have_text("Rows in, answers out.")
    expect(page.get_by_text("Servers").locator("visible=true")).to_have_count(0)
    expect(page.get_by_role("button", name="Authorize")).to_have_count(0)
    expect(page.locator(".authorization__btn")).to_have_count(0)


@dataclass(frozen=True)
class Swapped:
    """An open page, whose service follows a store; and the import into it."""

    page: Page
    run: warm.Run

    def activate(self, version: int) -> None:
        """Import a version, and wait until the page shows it."""
        done = self.run(f"models:/PageModel/{version}", "--allow-schema-change")
        assert done.status == 0, done.stderr
        expect(self.page.locator("#notices")).to_contain_text(f"Version {version} answers now.")
        expect(self.page.locator("#badges li").first).to_have_text(f"version {version}")
        expect(self.page.locator("#took")).to_contain_text(f"version {version} answered")

    def expect_answer(self) -> None:
        """Compare the answer on the page with that of the service."""
        answer = self.page.locator("#answer")
        expect(answer).not_to_have_class(re.compile("problem"))
        header = {"Authorization": f"Bearer {KEY}"}
        asked = httpx.post(self.page.url + "predict", json=_row(self.page), headers=header)
        (predicted,) = asked.json()["predictions"]
        shown = predicted if isinstance(predicted, str) else f"{predicted:.6g}"
        expect(answer).to_contain_text(shown)


@pytest.fixture
def swapped(
    tab: Open,
    tracking: Tracking,
    run: warm.Run,
    store: Path,
    plain_env: dict[str, str],
    tmp_path: Path,
) -> Iterator[Swapped]:
    """Open the page of a model of irises, in a service with a key."""
    registered.use(tracking.url)
    registered.log("PageModel", serialization_format="skops")
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    assert run("models:/PageModel/1").status == 0
    variables = {"BENTOML_HOME": str(store), "IRIS_MODEL_URI": "models:/PageModel/1"}
    others = {"IRIS_API_KEYS_FILE": str(keys), "IRIS_RELOAD_SECONDS": "0.2"}
    with servers.bentoml_service(tmp_path / "log", env=plain_env | variables | others) as server:
        page = tab(server.url)
        expect(page.locator("#answer")).to_have_text("Type an API key to see a prediction.")
        page.get_by_label("API key").fill(KEY)
        expect(page.locator("#bars li")).to_have_count(3)
        expect(page.locator("#code")).to_contain_text("Bearer YOUR_KEY")
        yield Swapped(page, run)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:Hint. Inferred schema contains integer:UserWarning")
def test_swaps(swapped: Swapped) -> None:
    """An open page follows swaps: to no probabilities, a mixed table, a regressor, 64 columns."""
    page = swapped.page
    page.get_by_label("petal length", exact=True).fill("1.8")
    registered.log("PageModel", LinearSVC(), serialization_format="skops")
    swapped.activate(2)
    swapped.expect_answer()
    expect(page.locator("#bars")).to_have_text("This model gives no probabilities.")
    expect(page.get_by_label("petal length", exact=True)).to_have_value("1.8")
    expect(page.locator("tbody tr th")).to_have_text(["2 · now", "1"])

    rows, outcomes = loans()
    pipeline = mixed(LogisticRegression(max_iter=2000)).fit(rows, outcomes)
    iris_api.log_model(pipeline, rows, outcomes, name="PageModel")
    swapped.activate(3)
    names = ["purpose", "home city", "owner", "children", "income", "debt"]
    expect(page.locator(".field label")).to_have_text(names)
    page.get_by_label("purpose", exact=True).select_option("travel")
    page.get_by_label("home city", exact=True).fill("Paris")
    page.get_by_role("switch", name="owner").focus()
    owner = _row(page)["owner"]
    page.keyboard.press("Space")
    page.get_by_label("income", exact=True).fill("")
    expect(page.locator("#code")).to_contain_text('"income":null')
    assert _row(page)["purpose"] == "travel"
    assert _row(page)["owner"] is not owner
    swapped.expect_answer()
    expect(page.locator("#place")).to_have_text("1 value lies outside the training data: home city")

    table = load_diabetes(as_frame=True, scaled=False)
    model = Ridge().fit(table.data, table.target)
    iris_api.log_model(model, table.data, table.target, name="PageModel")
    swapped.activate(4)
    swapped.expect_answer()
    expect(page.locator("#bars")).to_contain_text("of the training targets, 25 to 346")

    digits = load_digits(as_frame=True)
    forest = RandomForestClassifier(5, max_depth=5, random_state=0)
    forest.fit(digits.data, digits.target)
    iris_api.log_model(forest, digits.data, digits.target, name="PageModel")
    swapped.activate(5)
    swapped.expect_answer()
    expect(page.locator(".compact .field")).to_have_count(64)

    page.goto(page.url + "docs")
    lock = page.locator("#operations-predictions-predict .authorization__btn")
    expect(lock).to_be_visible()
