// What is known of the model: its title, and the card with numbers, training data and origin.

import { element, find, histogram, label, percent, show, time } from "./elements.js";

const ENGINES = { onnx: "ONNX Runtime", sklearn: "scikit-learn" };

export function showTitle(data) {
  const { model, active_since: since } = data;
  document.title = `${model.name} ${model.version} · Iris API`;
  find("name").textContent = model.name;
  const stage = model.stage === "None" ? [] : [model.stage];
  const badges = [`version ${model.version}`, ...stage, ...model.aliases.map((name) => `@${name}`)];
  find("badges").replaceChildren(...badges.map((text) => element("li", {}, text)));
  const when = since ? `active since ${time(since)}`
    : model.imported_at && `imported ${time(model.imported_at)}`;
  find("summary").textContent =
    [model.estimator, `answered by ${ENGINES[model.engine]}`, proof(model), when].filter(Boolean).join(" · ");
}

function proof({ engine, proof: found }) {
  if (engine !== "onnx") return "not compiled";
  return `proved equal to scikit-learn on ${found.rows.toLocaleString("en")} rows`;
}

export function showCard(data) {
  const make = (...parts) => parts.map((part) => part(data)).filter(Boolean);
  find("card").replaceChildren(...make(training),
    element("div", { class: "pair" },
      element("div", {}, ...make(measured, proved)), element("div", {}, ...make(origin, registry))),
    ...make(versions));
}

function section(title, ...children) {
  return element("section", { class: "panel" }, element("h3", {}, title), ...children);
}

// Names and values; what is empty is left out.
function list(values) {
  const rows = Object.entries(values).filter(([, value]) => value !== null && value !== "" && value !== undefined);
  return element("dl", {}, ...rows.flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", {}, value instanceof Node ? value : String(value))]));
}

function measured({ model }) {
  const numbers = Object.entries(model.metrics);
  if (!numbers.length) return null;
  return section("Measured in its run", element("ul", { class: "numbers" },
    ...numbers.map(([name, value]) => element("li", {},
      element("b", {}, show(value)), element("span", {}, name.replaceAll("_", " "))))));
}

function training({ model, profile }) {
  if (!profile) return section("Training data", element("p", {}, "The model came without a training profile."));
  const figures = model.schema.columns.map((column) => {
    const found = profile.features[column.plain_name];
    const range = `${show(found.minimum)} to ${show(found.maximum)}${column.unit ? ` ${column.unit}` : ""}`;
    const spread = `mean ${show(found.mean, 3)} ± ${show(found.deviation, 3)}`;
    return element("figure", {},
      histogram(found, found.minimum, found.maximum, `${label(column)}: ${range}, ${spread}`),
      element("figcaption", {}, element("b", {}, label(column)),
        element("span", {}, range), element("span", {}, spread)));
  });
  const classes = Object.entries(profile.classes).map(([name, share]) => `${name} ${percent(share)}`);
  return section("Training data", element("p", {}, `Classes: ${classes.join(", ")}`),
    element("div", { class: "figures" }, ...figures));
}

function proved({ model: { proof: found, engine } }) {
  if (engine !== "onnx") return section("Not compiled", element("p", {}, found.reason));
  const versions = Object.entries(found.versions).map(([name, version]) => `${name} ${version}`);
  return section("Compiled and proved", list({
    "rows compared": found.rows.toLocaleString("en"),
    "steps on both sides": found.steps ? found.steps.toLocaleString("en") : null,
    "decided by rounding": found.ties,
    "largest difference": found.largest_difference,
    precision: found.precision,
    with: versions.join(", "),
  }));
}

function origin({ model }) {
  const code = (text) => text && element("code", {}, text);
  return section("Origin", list({
    "model URI": code(model.model_uri),
    "tag in the store": code(model.tag),
    imported: model.imported_at && time(model.imported_at),
    "fitted with": model.sklearn_version && `scikit-learn ${model.sklearn_version}`,
    run: code(model.run_id),
    source: code(model.source),
    "tracking server": code(model.tracking_uri),
    "SHA-256": code(model.digest),
  }));
}

function registry({ model: { registry: status } }) {
  const text = !status ? "This service follows no registry."
    : status.error ? `The registry did not answer: ${status.error}`
    : status.problem ?? `The model URI means version ${status.version}.`;
  const wrong = status?.error || status?.problem;
  return section("Registry",
    element("p", { class: wrong ? "place outside" : "place" }, text),
    status?.checked_at ? list({ "last answer": time(status.checked_at) }) : "");
}

function versions({ model, versions: found }) {
  if (!found.length) return null;
  const head = ["version", "estimator", "answered by", "imported", "tag"];
  const rows = found.map((each) => element("tr", { "aria-current": each.tag === model.tag ? "true" : null },
    element("th", { scope: "row" }, String(each.version), each.tag === model.tag ? " · now" : ""),
    ...[each.estimator, ENGINES[each.engine], each.imported_at && time(each.imported_at)]
      .map((text) => element("td", {}, text || "–")),
    element("td", {}, element("code", {}, each.tag))));
  return section("Versions in the store", element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Versions in the store" },
    element("table", {}, element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, ...rows))));
}
