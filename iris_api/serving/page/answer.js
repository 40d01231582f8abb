// The answer: a label with its probabilities, or an error; and the same call in other languages.

import { element, find, histogram, percent, rank, show } from "./elements.js";

const SHOWN = 12; // classes with a bar
const DIGITS = 6; // of a regressor's number
const FIRST = 3; // classes with a bar on a telephone

export function showAnswer({ prediction, classes, probabilities, target }) {
  const chance = probabilities?.[classes.indexOf(prediction)];
  const share = chance === undefined ? [] : [element("small", {}, percent(chance))];
  const value = target !== undefined ? show(prediction, DIGITS) : String(prediction);
  find("answer").className = "value";
  find("answer").replaceChildren(value, " ", ...share);
  find("bars").replaceChildren(...(target ? makeScale(target, prediction)
    : probabilities ? makeBars(classes, probabilities, prediction)
    : target === undefined ? [element("p", { class: "note" }, "This model gives no probabilities.")] : []));
}

export function showProblem(text) {
  find("answer").className = "value problem";
  find("answer").replaceChildren(text);
  find("bars").replaceChildren();
  find("took").textContent = "";
}

function makeBars(classes, probabilities, prediction) {
  const order = classes.map((_, at) => at).sort((a, b) => probabilities[b] - probabilities[a]);
  const kept = new Set(order.slice(0, SHOWN)), first = new Set(order.slice(0, FIRST));
  const rows = classes.flatMap((name, at) => {
    if (!kept.has(at)) return [];
    const bar = element("span", { class: "bar" });
    bar.style.setProperty("--share", probabilities[at]);
    const kind = [name === prediction ? "chosen" : "", first.has(at) ? "" : "minor"].join(" ").trim();
    return [element("li", { class: kind },
      element("span", { class: "class" }, String(name)), bar,
      element("span", { class: "share" }, percent(probabilities[at])))];
  });
  const rest = order.slice(SHOWN).reduce((sum, at) => sum + probabilities[at], 0);
  const more = order.length > SHOWN
    ? [element("p", { class: "note" }, `${order.length - SHOWN} more classes: ${percent(rest)}`)] : [];
  return [element("ul", { class: "bars", "aria-label": "Probability of each class" }, ...rows), ...more];
}

// Where a regressor's number lies among the targets of the training rows, of which the profile has
// the deciles.
function makeScale({ edges }, prediction) {
  const ends = [edges[0], edges.at(-1)];
  const [low, high] = [Math.min(prediction, ends[0]), Math.max(prediction, ends[1])];
  const profile = { edges, shares: edges.slice(1).map(() => 1 / (edges.length - 1)) };
  const outside = prediction < ends[0] || prediction > ends[1];
  const words = outside ? "outside the training targets"
    : `higher than ${percent(rank(profile, prediction), 0)} of the training targets`;
  const marker = element("span", { class: "marker" });
  marker.style.setProperty("--at", high > low ? (prediction - low) / (high - low) : 0.5);
  return [element("div", { class: "scale" }, histogram(profile, low, high), marker),
    element("p", { class: outside ? "place outside" : "note" },
      `${words}, ${show(ends[0])} to ${show(ends[1])}`)];
}

export function showPlace(profile, outside) {
  const count = `${outside.length} ${outside.length === 1 ? "value lies" : "values lie"}`;
  const names = outside.slice(0, 3).map((field) => field.label).join(", ");
  const more = outside.length > 3 ? ", …" : "";
  find("place").className = outside.length ? "place outside" : "place";
  find("place").textContent = !profile ? "" : outside.length
    ? `${count} outside the training data: ${names}${more}`
    : "Every value lies within the training data.";
}

const KEY = "YOUR_KEY";

export const LANGUAGES = {
  curl: (url, row, hasKeys) => [
    `curl -s ${url} \\`,
    "  -H 'Content-Type: application/json' \\",
    ...(hasKeys ? [`  -H 'Authorization: Bearer ${KEY}' \\`] : []),
    `  -d '${JSON.stringify(row).replaceAll("'", "'\\''")}'`,
  ],
  Python: (url, row, hasKeys) => [
    "import requests", "", "answer = requests.post(", `    ${JSON.stringify(url)},`,
    `    json=${python(row)},`,
    ...(hasKeys ? [`    headers={"Authorization": "Bearer ${KEY}"},`] : []),
    "    timeout=10,", ")", "answer.raise_for_status()", 'print(answer.json()["predictions"][0])',
  ],
  JavaScript: (url, row, hasKeys) => [
    `const answer = await fetch(${JSON.stringify(url)}, {`, '  method: "POST",',
    `  headers: {"Content-Type": "application/json"${hasKeys ? `, "Authorization": "Bearer ${KEY}"` : ""}},`,
    `  body: JSON.stringify(${JSON.stringify(row)}),`, "});",
    "console.log((await answer.json()).predictions[0]);",
  ],
};

function python(row) {
  const names = { true: "True", false: "False", null: "None" };
  const cells = Object.entries(row).map(([name, value]) =>
    `${JSON.stringify(name)}: ${names[value] && typeof value !== "string" ? names[value] : JSON.stringify(value)}`);
  return `{${cells.join(", ")}}`;
}
