// The form: a field for each column of the schema, in its order.

import { element, find, histogram, label, own, percent, rank, show } from "./elements.js";

const COMPACT = 16; // columns from which fields are small and without a histogram
const LONGEST = 26; // characters of a name that a small field has room for
const STEPS = 50; // of a slider, at least
const MARGIN = 0.15; // of the training range, on either side of a slider

export class Form {
  constructor(data, changed) {
    this.fields = data.model.schema.columns.map((column, at) => {
      const name = column.plain_name;
      const profile = own(data.profile?.features, name) ?? own(data.profile?.categories, name);
      return makeField(column, profile, own(data.examples[0], name), at);
    });
    const root = find("fields");
    root.replaceChildren(...this.fields.map((field) => field.root));
    root.classList.toggle("compact", this.fields.length >= COMPACT);
    const longest = Math.max(...this.fields.map((field) => field.label.length));
    root.style.setProperty("--longest", Math.min(longest, LONGEST));
    root.oninput = () => { this.note(); changed(); };
  }

  read() {
    return Object.fromEntries(this.fields.map((field) => [field.name, field.read()]));
  }

  write(row) {
    for (const field of this.fields) if (Object.hasOwn(row, field.name)) field.write(row[field.name]);
    this.note();
  }

  // Say at each field where its value lies in the training data, and return what is outside.
  note() {
    for (const field of this.fields) {
      [field.place, field.outside] = place(field.profile, field.read());
      field.say(field.place, field.outside ? "outside" : "");
    }
    return this.fields.filter((field) => field.outside);
  }

  // Show the problems of an answer at the fields that they name.
  mark(problems) {
    for (const field of this.fields) {
      const problem = problems.find((each) => [field.name, field.title].includes(each.loc[0]));
      if (problem) field.say(problem.msg, "wrong");
    }
  }
}

function makeField(column, profile, example, at) {
  const id = `column-${at}`;
  const hint = element("p", { class: "hint", id: `${id}-hint` });
  const input = { id, "aria-describedby": hint.id };
  const made = makeInput(column, profile, example, input);
  const name = element("label", { for: id, title: column.name }, label(column));
  const unit = column.unit ? element("span", { class: "unit" }, column.unit) : null;
  const line = element("div", { class: "line" }, name, element("span", { class: "box" }, made.input, unit));
  const root = element("div", { class: "field" }, line, made.track ?? null, hint);
  const say = (text, kind) => {
    hint.textContent = text;
    root.dataset.kind = kind;
    made.input.setAttribute("aria-invalid", kind === "wrong");
  };
  return { ...made, name: column.plain_name, title: column.name, label: label(column), profile, root, say };
}

function makeInput(column, profile, example, attributes) {
  if (column.type === "boolean" && column.required) {
    const input = element("input", { ...attributes, type: "checkbox", role: "switch" });
    return { input, read: () => input.checked, write: (value) => { input.checked = value; } };
  }
  if (column.type === "boolean") {
    return makeSelect(new Map([["", null], ["yes", true], ["no", false]]), attributes);
  }
  if (column.type === "string") return makeText(column, attributes);
  return makeNumber(column, profile, example, attributes);
}

function makeSelect(values, attributes) {
  const options = [...values.keys()].map((text) => element("option", { value: text }, text || "missing"));
  const input = element("select", attributes, ...options);
  const write = (value) => {
    input.value = [...values].find(([, each]) => each === value)?.[0] ?? "";
  };
  return { input, read: () => values.get(input.value), write };
}

function makeText(column, attributes) {
  const known = column.categories ?? [];
  if (!column.unknown_categories && known.length) {
    const none = column.required ? [] : [["", null]];
    return makeSelect(new Map([...none, ...known.map((text) => [text, text])]), attributes);
  }
  const list = element("datalist", { id: `${attributes.id}-known` },
    ...known.map((text) => element("option", { value: text })));
  const placeholder = column.required ? null : "missing";
  const input = element("input", { ...attributes, type: "text", list: list.id, placeholder });
  const read = () => (input.value === "" && !column.required ? null : input.value);
  return { input, track: list, read, write: (value) => { input.value = value ?? ""; } };
}

function makeNumber(column, profile, example, attributes) {
  const ends = sliderEnds(column, profile, example);
  const placeholder = column.required ? null : "missing";
  const step = ends?.step ?? "any";
  const input = element("input", { ...attributes, type: "number", step, placeholder });
  const read = () => (input.value === "" ? null : Number(input.value));
  if (!ends) return { input, read, write: (value) => { input.value = value ?? ""; } };
  const range = { type: "range", min: ends.low, max: ends.high, step };
  const slider = element("input", { ...range, "aria-label": `${label(column)}, slider` });
  const move = () => {
    slider.value = read() ?? (ends.low + ends.high) / 2;
    slider.style.setProperty("--at", (slider.value - ends.low) / (ends.high - ends.low));
    slider.classList.toggle("missing", read() === null);
  };
  input.addEventListener("input", move);
  slider.addEventListener("input", () => { input.value = slider.value; move(); });
  const bars = profile ? histogram(profile, ends.low, ends.high) : null;
  const track = element("div", { class: "track" }, bars, slider);
  return { input, track, read, write: (value) => { input.value = value ?? ""; move(); } };
}

// The ends and the step of a slider: somewhat more than the training range, within the range of the
// schema. Null where neither is known.
function sliderEnds(column, profile, example) {
  let low = column.minimum ?? -Infinity, high = column.maximum ?? Infinity;
  if (profile) {
    const margin = (profile.maximum - profile.minimum) * MARGIN || 1;
    const least = profile.minimum - margin;
    low = Math.max(low, profile.minimum >= 0 ? Math.max(0, least) : least);
    high = Math.min(high, profile.maximum + margin);
  }
  if (typeof example === "number") [low, high] = [Math.min(low, example), Math.max(high, example)];
  if (!(Number.isFinite(low) && Number.isFinite(high) && low < high)) return null;
  const exact = 10 ** Math.floor(Math.log10((high - low) / STEPS));
  const step = column.type === "integer" ? Math.max(1, exact) : exact;
  const tidy = (value) => Number((value * step).toPrecision(12));
  return { low: tidy(Math.floor(low / step)), high: tidy(Math.ceil(high / step)), step: tidy(1) };
}

// The words on where a value lies in the training data, and whether it is outside.
function place(profile, value) {
  if (!profile || value === null || value === "") return ["", false];
  if (profile.categories) return placeText(profile, String(value));
  if (typeof value !== "number") return ["", false];
  const range = `${show(profile.minimum)} to ${show(profile.maximum)}`;
  if (value < profile.minimum) return [`below the training data, ${range}`, true];
  if (value > profile.maximum) return [`above the training data, ${range}`, true];
  if (value === profile.maximum) return ["the highest of the training rows", false];
  if (value === profile.minimum) return ["the lowest of the training rows", false];
  return [`higher than ${percent(rank(profile, value), 0)} of the training rows`, false];
}

function placeText({ categories, other }, value) {
  if (Object.hasOwn(categories, value)) return [`like ${percent(categories[value], 0)} of the training rows`, false];
  return other > 0 ? [`rare: ${percent(other)} of the training rows have such a value`, false]
    : ["not in the training data", true];
}
