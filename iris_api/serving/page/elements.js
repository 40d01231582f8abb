// Elements, numbers and histograms, which the other modules are made of.

const SVG = "http://www.w3.org/2000/svg";

// Texts become text nodes, never markup: names and labels come from a registry that others write to.
export function element(tag, attributes = {}, ...children) {
  const made = ["svg", "rect"].includes(tag)
    ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Names of columns are keys: one may be called constructor, which every object has.
export const own = (object, name) =>
  object && Object.hasOwn(object, name) ? object[name] : undefined;

export const find = (id) => document.getElementById(id);

export const show = (value, digits = 4) =>
  Math.abs(value) >= 1e7 || (value && Math.abs(value) < 1e-4)
    ? value.toExponential(digits - 1)
    : value.toLocaleString("en", { maximumSignificantDigits: digits });

export const percent = (share, digits = 1) =>
  share.toLocaleString("en", { style: "percent", maximumFractionDigits: digits });

const TIME = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
export const time = (text) => TIME.format(new Date(text));

// The name of a column as people read it: without its unit and underscores.
export function label(column) {
  const end = column.unit ? column.name.lastIndexOf("(") : -1;
  return (end > 0 ? column.name.slice(0, end) : column.name).replaceAll("_", " ").trim();
}

// The share of the training rows below a number: within a bin, rows are taken to be spread evenly.
export function rank(profile, value) {
  let below = 0;
  profile.shares.forEach((share, bin) => {
    const [start, end] = [profile.edges[bin], profile.edges[bin + 1]];
    below += share * Math.min(1, Math.max(0, (value - start) / (end - start)));
  });
  return below;
}

const CELLS = 30; // bars of a histogram
const FEWEST = 8; // bars that an image has room for, so that two are not as wide as all of it

// The training rows of a column between two numbers. The profile has quantiles, and this has bars of
// one width.
export function histogram(profile, low, high, title = null) {
  const width = (high - low) / CELLS;
  const ranks = Array.from({ length: CELLS + 1 }, (_, at) => rank(profile, low + at * width));
  return bars(ranks.slice(1).map((next, at) => next - ranks[at]), title);
}

// Bars of one width; without a title they only decorate.
export function bars(shares, title = null) {
  const top = Math.max(...shares) || 1;
  const made = shares.map((share, at) => {
    const height = share > 0 ? Math.max(0.04, share / top) : 0;
    return element("rect", { x: at + 0.08, width: 0.84, y: 1 - height, height });
  });
  const role = title ? { role: "img", "aria-label": title } : { "aria-hidden": "true" };
  const box = { class: "histogram", viewBox: `0 0 ${Math.max(shares.length, FEWEST)} 1`, preserveAspectRatio: "none" };
  return element("svg", { ...box, ...role }, ...made);
}
