// The page: asks for predictions as the form changes, and follows the model that answers.

import { LANGUAGES, showAnswer, showPlace, showProblem } from "./answer.js";
import { showCard, showTitle } from "./card.js";
import { element, find } from "./elements.js";
import { Form } from "./form.js";

const POLL_MS = 5000; // between two polls of the model, while the page is visible
const PAUSE_MS = 100; // between two predictions: a slider that moves asks for ten a second
const AGAIN_MS = 500; // until the model is polled after an answer of another version
const NOTICE_MS = 8000; // that a notice of another version stays

let data = null; // page.json, of the model that is shown
let form = null;
let example = 0;
let asking = false, changed = false, following = false;

// Return the answer of a route, and throw an error with the words of the service.
async function get(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw Object.assign(new Error("The service does not answer."), { isGone: true });
  }
  const content = await response.json();
  if (response.ok) return { content, version: Number(response.headers.get("X-Model-Version")) };
  throw Object.assign(new Error(content.error), { detail: content.detail ?? [] });
}

const key = () => find("key").querySelector("input").value;

function post(path) {
  const headers = { "Content-Type": "application/json" };
  if (data.has_keys) headers.Authorization = `Bearer ${key()}`;
  return get(path, { method: "POST", headers, body: JSON.stringify(form.read()) });
}

// Ask for the row of the form, once more for what changed in the meantime.
async function ask() {
  changed = true;
  if (asking) return;
  for (asking = true; changed;) {
    changed = false;
    showPlace(data.profile, form.note());
    showCode();
    await askOnce();
    await new Promise((resolve) => { setTimeout(resolve, PAUSE_MS); });
  }
  asking = false;
}

async function askOnce() {
  if (data.has_keys && !key()) {
    showProblem("Type an API key to see a prediction.");
    return;
  }
  const start = performance.now();
  try {
    const calls = ["./predict", ...(data.has_probabilities ? ["./predict_proba"] : [])];
    const [label, chances] = await Promise.all(calls.map(post));
    const took = Math.max(1, Math.round(performance.now() - start));
    const versions = [label, ...(chances ? [chances] : [])].map((each) => each.version);
    if (versions.some((version) => version !== data.model.version)) {
      setTimeout(follow, AGAIN_MS);
      if (new Set(versions).size > 1) return;
    }
    showAnswer({
      prediction: label.content.predictions[0],
      classes: chances?.content.classes,
      probabilities: chances?.content.probabilities[0],
      target: data.model.schema.task === "regressor" ? data.profile?.target ?? null : undefined,
    });
    find("took").textContent = `version ${label.version} answered within ${took} ms`;
  } catch (error) {
    showProblem(error.message);
    form.mark(error.detail ?? []);
  }
}

function showCode() {
  const language = document.querySelector("#languages input:checked").value;
  const url = new URL("./predict", location.href).href;
  find("code").textContent = LANGUAGES[language](url, form.read(), data.has_keys).join("\n");
}

// Load all that is shown of the model that answers now; values of the form stay where they can.
async function load() {
  const row = form?.read(), before = data?.model;
  data = (await get("./page.json")).content;
  const same = JSON.stringify(before?.schema) === JSON.stringify(data.model.schema);
  showTitle(data);
  showCard(data);
  form = new Form(data, ask);
  example = 0;
  form.write(same ? row : data.examples[0] ?? {});
  find("example").hidden = !data.examples.length;
  find("example").textContent = data.examples.length > 1 ? "Another example" : "Example";
  find("key").hidden = !data.has_keys;
  find("content").hidden = false;
  if (before) notify(`Version ${data.model.version} answers now.`);
  ask();
}

async function follow() {
  if (following) return;
  following = true;
  try {
    const { content: model } = await get("./model");
    const isBack = find("notices").querySelector(".problem");
    warn(model.degraded ? `The active version cannot be loaded: ${model.degraded}` : "");
    if (model.tag !== data?.model.tag) await load();
    else if (JSON.stringify(model) !== JSON.stringify(data.model)) {
      data.model = model;
      showTitle(data);
      showCard(data);
    }
    if (isBack) ask();
  } catch (error) {
    warn(error.isGone ? error.message : `No model can answer: ${error.message}`);
    if (!data) find("name").textContent = "No model";
  }
  following = false;
}

function warn(text) {
  const known = find("notices").querySelector(".problem");
  if (known?.textContent === text) return;
  known?.remove();
  if (text) find("notices").prepend(element("p", { class: "notice problem" }, text));
}

function notify(text) {
  const notice = element("p", { class: "notice" }, text);
  find("notices").append(notice);
  setTimeout(() => notice.remove(), NOTICE_MS);
}

async function copy() {
  const text = find("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // only pages with TLS, or of this machine, may write to the clipboard
    getSelection().selectAllChildren(find("code"));
    document.execCommand("copy");
  }
  find("copy").textContent = "Copied";
  setTimeout(() => { find("copy").textContent = "Copy"; }, 1500);
}

function begin() {
  find("languages").append(...Object.keys(LANGUAGES).map((name, at) => element("label", {},
    element("input", { type: "radio", name: "language", value: name, checked: at === 0 ? "" : null }),
    element("span", {}, name))));
  find("languages").addEventListener("change", showCode);
  find("key").addEventListener("input", ask);
  find("form").addEventListener("submit", (event) => event.preventDefault());
  find("copy").addEventListener("click", copy);
  find("example").addEventListener("click", () => {
    example = (example + 1) % data.examples.length;
    form.write(data.examples[example]);
    ask();
  });
  document.addEventListener("visibilitychange", () => document.hidden || follow());
  setInterval(() => document.hidden || follow(), POLL_MS);
  follow();
}

begin();
