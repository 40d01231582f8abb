// What is known of the model: its title, and the card with numbers, training data and origin.

import { bars, element, find, histogram, label, own, percent, show, time } from "./elements.js";

const OPEN = 15; // columns whose histograms are shown at once
const CLASSES = 12; // whose shares are shown
const TEXTS = 3; // categories of a column that are named
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
  const [left, right] = Object.keys(data.model.metrics).length
    ? [[measured, proved], [origin, registry]] : [[proved, registry], [origin]];
  find("card").replaceChildren(...make(training),
    element("div", { class: "pair" },
      element("div", {}, ...make(...left)), element("div", {}, ...make(...right))),
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
  const shown = model.schema.columns.map((column) => {
    const found = own(profile.features, column.plain_name);
    return found ? numbers(column, found) : texts(column, own(profile.categories, column.plain_name));
  });
  const shares = Object.entries(profile.classes ?? {});
  const classes = shares.slice(0, CLASSES).map(([name, share]) => `${name} ${percent(share)}`);
  if (shares.length > CLASSES) classes.push(`${shares.length - CLASSES} more`);
  const figures = element("div", { class: "figures" }, ...shown);
  return section("Training data",
    classes.length ? element("p", {}, `Classes: ${classes.join(", ")}`) : "",
    shown.length <= OPEN ? figures
      : element("details", {}, element("summary", {}, `${shown.length} columns`), figures));
}

function numbers(column, found) {
  const range = `${show(found.minimum)} to ${show(found.maximum)}${column.unit ? ` ${column.unit}` : ""}`;
  const spread = `mean ${show(found.mean, 3)} ± ${show(found.deviation, 3)}`;
  return figure(column, histogram(found, found.minimum, found.maximum, `Histogram of ${label(column)}`), range, spread);
}

function texts(column, { categories, other }) {
  const shares = Object.entries(categories);
  const rest = other > 0 ? [`others ${percent(other)}`] : [];
  const first = shares.slice(0, TEXTS).map(([text, share]) => `${text} ${percent(share)}`);
  const more = shares.length > TEXTS ? [`${shares.length - TEXTS} more`] : [];
  return figure(column, bars(shares.map(([, share]) => share), `Shares of ${label(column)}`), ...first, ...more, ...rest);
}

function figure(column, image, ...lines) {
  return element("figure", {}, image, element("figcaption", {}, element("b", {}, label(column)),
    ...lines.map((line) => element("span", {}, line))));
}

function proved({ model: { proof: found, engine } }) {
  if (engine !== "onnx") return section("Not compiled", element("p", {}, found.reason));
  const versions = Object.entries(found.versions).map(([name, version]) => `${name} ${version}`);
  return section("Compiled and proved", list({
    "rows compared": found.rows.toLocaleString("en"),
    "steps on both sides": found.steps ? found.steps.toLocaleString("en") : null,
    "decided by rounding": found.ties,
    "largest difference": show(found.largest_difference, 2),
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
  if (!status) return section("Registry", element("p", {}, "This service follows no registry."));
  const { error, problem, rejected, in_stage: stage = [], version } = status;
  const wrong = [
    error && `The registry did not answer: ${error}`,
    problem,
    rejected && `Version ${rejected.version} is not activated: ${rejected.reason}`,
    stage.length > 1 && `Several versions are in the stage: ${stage.join(", ")}.`,
  ].filter(Boolean).map((text) => element("p", { class: "place outside" }, text));
  const means = version ? [element("p", { class: "place" }, `The model URI means version ${version}.`)] : [];
  return section("Registry", ...wrong, ...means,
    status.checked_at ? list({ "last answer": time(status.checked_at) }) : "");
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
