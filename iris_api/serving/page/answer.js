// The answer: a label with its probabilities, or an error; and the same call in other languages.

import { element, find, percent, show } from "./elements.js";

const SHOWN = 12; // classes with a bar
const FIRST = 3; // classes with a bar on a telephone

export function showAnswer({ prediction, classes, probabilities }) {
  const value = typeof prediction === "number" ? show(prediction) : String(prediction);
  const chance = probabilities?.[classes.indexOf(prediction)];
  const share = chance === undefined ? [] : [element("small", {}, percent(chance))];
  find("answer").className = "value";
  find("answer").replaceChildren(value, " ", ...share);
  find("bars").replaceChildren(...(probabilities ? makeBars(classes, probabilities, prediction)
    : [element("p", { class: "took" }, "This model gives no probabilities.")]));
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
    ? element("p", { class: "took" }, `${order.length - SHOWN} more classes: ${percent(rest)}`) : null;
  return [element("ul", { class: "bars", "aria-label": "Probability of each class" }, ...rows),
    ...(more ? [more] : [])];
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
