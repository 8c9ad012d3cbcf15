// The filters of letters. They stand in the address, so that a link or a bookmark shows the same letters again.

import {count, h, zone} from "./dom.js";

const WORDS = {text: "error contains", type: "type", payload: "payload", begins: "id begins with", state: "state", since: "from", until: "until"};
const STATES = [["", "any"], ["open,failed", "wait for a replay"], ["quarantined", "in quarantine"], ["archived", "archived"], ["resolved", "resolved"]];
const AGE = /^(\d+(?:\.\d+)?)(s|m|h|d|w)$/, SECONDS = {s: 1, m: 60, h: 3600, d: 86400, w: 604800};

export const isFiltered = query => Object.keys(WORDS).some(name => query.get(name));

// The filters as a request names them.
export function chosenBy(query) {
  const chosen = {types: query.getAll("type"), states: (query.get("state") ?? "").split(",").filter(Boolean)};
  for (const name of ["text", "payload", "begins", "since", "until"]) if (query.get(name)) chosen[name] = query.get(name);
  return isFiltered(query) ? chosen : {everything: true};
}

export const withQuery = (address, query) => isFiltered(query) ? `${address}?${query}` : address;

export function filters(query, address) {
  const set = Object.keys(WORDS).filter(name => query.get(name));
  const field = (name, label, attributes) => h("div", {}, h("label", {for: `f-${name}`}, label),
    h("input", {id: `f-${name}`, name, value: query.get(name) ?? "", autocomplete: "off", spellcheck: "false", maxlength: "2000", ...attributes}));
  const moment = (name, label) => field(name, `${label} (${zone()})`, {type: "datetime-local", value: local(query.get(name)), step: "1"});
  const state = h("div", {}, h("label", {for: "f-state"}, "State"), h("select", {id: "f-state", name: "state"},
    STATES.map(([value, word]) => h("option", {value, selected: (query.get("state") ?? "") === value}, word))));
  const find = event => {
    event.preventDefault();
    location.hash = withQuery(address, asked(new FormData(event.target)));
  };
  return h("details", {class: "filters", open: set.length > 0},
    h("summary", {}, set.length ? `Filters (${count(set.length)}): ${set.map(name => `${WORDS[name]} ${shown(name, query.get(name))}`).join(", ")}` : "Find letters"),
    h("form", {role: "search", "aria-label": "Letters", onsubmit: find},
      h("div", {class: "fields"}, field("text", "Error contains", {type: "search"}), field("type", "Type", {}),
        field("payload", "Payload has", {placeholder: "customer.id=17"}), field("begins", "Id begins with", {}), state,
        moment("since", "From"), moment("until", "Until")),
      h("div", {class: "row"}, h("button", {class: "main", type: "submit"}, "Find"),
        set.length ? h("a", {href: address}, "All letters") : null)));
}

function asked(form) {
  const query = new URLSearchParams();
  for (const name of Object.keys(WORDS)) {
    const value = String(form.get(name) ?? "").trim();
    if (value) query.set(name, name === "since" || name === "until" ? new Date(value).toISOString() : value);
  }
  return query;
}

function moment(text) {
  const [, number, unit] = AGE.exec(text ?? "") ?? [];
  return number ? new Date(Date.now() - number * SECONDS[unit] * 1000) : new Date(text ?? NaN);
}

// As an input for a local time wants it.
function local(text) {
  const at = moment(text);
  return Number.isNaN(at.getTime()) ? "" : new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

function shown(name, value) {
  if (name === "state") return STATES.find(([one]) => one === value)?.[1] ?? value;
  return name === "since" || name === "until" ? local(value).replace("T", " ") || value : value;
}
