// Building and updating the page: text is always text, never markup.

export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list" && name !== "form" && typeof value !== "string") node[name] = value;
    else node.setAttribute(name === "class" ? "class" : name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter(one => one !== null && one !== undefined && one !== false).map(safe));
  return node;
}

// Text of others as it is, but for characters that cannot be seen or that turn text around: these stand as their escapes.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

export function safe(text) {
  if (typeof text !== "string") return text;
  return text.replace(UNSEEN, one => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// Replaces the children of a node, and gives the focus back to whoever had it, known by its data-key.
export function fill(node, ...children) {
  const key = node.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  node.replaceChildren(...children.flat(3).filter(one => one !== null && one !== undefined && one !== false).map(safe));
  if (key) [...node.querySelectorAll("[data-key]")].find(one => one.dataset.key === key)?.focus({preventScroll: true});
}

// Draws only when what is drawn has changed, so that a selection or a focus is not disturbed every second.
export function drawer(node, draw) {
  let before;
  return value => {
    const now = JSON.stringify(value);
    if (now === before) return;
    before = now;
    fill(node, draw(value));
  };
}

export const count = number => number === null || number === undefined ? "–" : Math.round(number).toLocaleString("en");

export const counted = (number, one) => `${count(number)} ${one}${number === 1 ? "" : "s"}`;

export function rate(number) {
  if (!number) return "0";
  return number < 10 ? number.toFixed(1) : count(number);
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  for (const [size, word] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${word}`;
  }
  return `${Math.round(seconds)} s`;
}

const offsets = new Intl.DateTimeFormat("en", {timeZoneName: "longOffset"});
const offset = moment => offsets.formatToParts(moment).find(one => one.type === "timeZoneName").value.replace("GMT", "UTC").replace("+00:00", "");

// The time zone in which times are shown.
export const zone = () => `${offsets.resolvedOptions().timeZone} ${offset(new Date())}`.replace("UTC UTC", "UTC");

const seconds = at => typeof at === "number" ? at : Date.parse(at) / 1000;

export function ago(at) {
  return at ? `${span(Math.max(0, Date.now() / 1000 - seconds(at)))} ago` : "–";
}

export function time(at, exact = false) {
  if (!at) return "–";
  const moment = new Date(seconds(at) * 1000);
  const clock = moment.toLocaleTimeString("en-GB") + (exact ? `.${String(moment.getMilliseconds()).padStart(3, "0")}` : "");
  const today = new Date().toDateString() === moment.toDateString();
  const text = today ? clock : `${moment.toLocaleDateString("en-CA")} ${clock} ${offset(moment)}`;
  return h("time", {datetime: moment.toISOString(), title: moment.toISOString()}, text);
}

export const pill = (word, kind, title) => h("span", {class: `pill ${kind}`, title}, word);

export function json(value) {
  return h("pre", {tabindex: "0"}, typeof value === "string" ? value : JSON.stringify(value, null, 2));
}

export function spark(values, label) {
  const box = "http://www.w3.org/2000/svg", width = 120, height = 32;
  const svg = document.createElementNS(box, "svg");
  for (const [name, value] of Object.entries({class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none",
    role: "img", "aria-label": label})) svg.setAttribute(name, value);
  const most = Math.max(1, ...values), step = width / Math.max(29, values.length - 1);
  const points = values.map((one, index) => [width - (values.length - 1 - index) * step, height - 2 - one / most * (height - 5)]);
  if (points.length < 2) return svg;
  const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  for (const [tag, name, dots] of [["polygon", "area", `${points[0][0].toFixed(1)},${height} ${line} ${width},${height}`],
    ["polyline", "line", line]]) {
    const shape = document.createElementNS(box, tag);
    shape.setAttribute("class", name);
    shape.setAttribute("points", dots);
    svg.append(shape);
  }
  return svg;
}

// A table. Columns whose name begins with + are left out on a phone.
export function table(kind, names, body) {
  return h("div", {class: "scroll", tabindex: "0"}, h("table", {class: kind}, h("thead", {}, h("tr", {}, names.map(one =>
    h("th", {scope: "col", class: one.startsWith("+") ? "more" : undefined}, one.replace("+", ""))))), body));
}

// Links to pages elsewhere. The console has checked that they are http or https.
export const outwards = links => Object.entries(links).map(([name, href]) => h("a", {href, target: "_blank", rel: "noopener noreferrer"}, name));

// A dialog that ends with what `draw` gives to its first argument, or with null by Esc and the cross.
export function dialog(title, draw) {
  return new Promise(resolve => {
    const back = document.activeElement;
    const box = h("dialog", {"aria-label": title});
    const end = value => { resolve(value); box.close(); };
    box.append(h("header", {}, h("h2", {}, title), h("button", {class: "plain", "aria-label": "Close", onclick: () => end(null)}, "✕")),
      ...[draw(end)].flat());
    box.addEventListener("close", () => { resolve(null); box.remove(); back?.focus?.(); });
    document.body.append(box);
    box.showModal();
    box.querySelector("[autofocus]")?.focus();
  });
}
