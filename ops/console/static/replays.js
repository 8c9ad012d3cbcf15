// Replays: what one would do, how it goes, and its end by hand.

import {get, post} from "./api.js";
import {ago, count, dialog, drawer, fill, h, pill} from "./dom.js";

const KINDS = {running: "warn", cancelling: "warn", done: "good", cancelled: "soft", failed: "bad"};
const SHOWN = 3;

export function replays(root, say) {
  const box = h("section", {"aria-labelledby": "replays", hidden: true});
  root.append(box);
  const draw = drawer(box, all => [h("h2", {id: "replays"}, "Replays"), all.map(one => drawn(one, say))]);
  async function look() {
    try {
      const latest = (await get("/api/replays")).replays.slice(0, SHOWN);
      box.hidden = !latest.length;
      draw(latest);
    } catch (error) { say(error.message); }
  }
  return {look, begin: async (chosen, what) => { if (await begin(chosen, what)) { await look(); box.scrollIntoView?.({block: "nearest"}); } }};
}

const OUTCOMES = {succeeds: "would succeed", fails_the_same: "would fail the same", fails_otherwise: "would fail otherwise",
  stored_already: "stored already", conflicts: "conflict with a row", cannot_be_tried: "cannot be tried"};

function shadowed(one) {
  const sums = {}, wrote = {};
  for (const {report} of one.parts) {
    for (const name of Object.keys(OUTCOMES)) sums[name] = (sums[name] ?? 0) + (report[name] ?? 0);
    for (const [name, rows] of Object.entries(report.wrote ?? {})) for (const [what, number] of Object.entries(rows)) if (number) wrote[`${name}: ${what}`] = (wrote[`${name}: ${what}`] ?? 0) + number;
  }
  const words = Object.entries(sums).filter(([, number]) => number).map(([name, number]) => `${count(number)} ${OUTCOMES[name]}`);
  const rows = Object.entries(wrote).map(([what, number]) => `${what} ${count(number)}`);
  return [h("p", {}, `${count(one.done)} of ${count(one.total)} tried: ${words.join(", ") || "no outcome yet"}. Nothing was stored.`),
    rows.length ? h("p", {class: "soft"}, `It would write: ${rows.join(", ")}`) : null,
    h("ul", {class: "soft"}, one.parts.flatMap(part => part.shadows).slice(0, 10).map(letter => h("li", {},
      h("a", {href: `#/letters/letter/${encodeURIComponent(letter.letter_id)}`}, letter.event_id ?? letter.letter_id), ` ${OUTCOMES[letter.outcome]}: ${letter.error_type} ${letter.message}`)))];
}

function drawn(one, say) {
  const cancel = async () => { try { await post(`/api/replays/${one.replay_id}/cancel`); } catch (error) { say(error.message); } };
  const sums = {};
  for (const part of one.parts) for (const [why, number] of Object.entries(part.report.failures ?? {})) sums[why] = (sums[why] ?? 0) + number;
  const failures = Object.entries(sums).sort((a, b) => b[1] - a[1]);
  const said = one.parts.flatMap(part => part.said);
  const running = one.ended_at === null;
  return h("article", {class: "replay"},
    h("div", {class: "row spread"}, h("span", {}, pill(one.state, KINDS[one.state]), " ", `${one.request.shadow ? "shadow run of " : ""}${described(one.request)}, begun ${ago(one.began_at)}${one.by ? ` by ${one.by}` : ""}`),
      running ? h("button", {"data-key": "cancel", onclick: cancel}, one.state === "cancelling" ? "End it now" : "Cancel") : null),
    h("progress", {max: Math.max(1, one.total), value: one.done, "aria-label": "Letters replayed"}),
    one.request.shadow ? shadowed(one) : h("p", {}, `${count(one.done)} of ${count(one.total)}: ${count(one.resolved)} resolved (${count(one.already_stored)} were stored already), `
      + `${count(one.failed)} failed${one.quarantined ? `, ${count(one.quarantined)} now in quarantine` : ""}`),
    failures.length ? h("ul", {class: "soft"}, failures.slice(0, 5).map(([why, number]) => h("li", {}, `${count(number)} × ${why}`))) : null,
    said.length ? h("p", {class: "warn"}, said.join(" · ")) : null);
}

function described(chosen) {
  if (chosen.ids.length) return chosen.ids.length === 1 ? "one letter" : `${chosen.ids.length} letters`;
  const filtered = ["types", "states", "since", "until", "begins", "text", "payload"].map(name => [name, String(chosen[name] ?? "")])
    .filter(([, value]) => value).map(([name, value]) => `${name} ${value}`);
  return [chosen.fingerprint ? `group ${chosen.fingerprint}` : filtered.length ? "letters" : "all that wait",
    filtered.length ? `with ${filtered.join(", ")}` : ""].filter(Boolean).join(" ");
}

function begin(chosen, what) {
  return dialog(`Replay ${what}`, end => {
    const field = (id, label, about, start) => [h("label", {for: id}, label), h("input", {id, type: "number", min: "0", value: start, step: "any"}),
      h("small", {}, about)];
    const plan = h("p", {class: "plan", role: "status"}), problem = h("p", {class: "bad", role: "alert"});
    const number = id => Number(document.getElementById(id).value) || 0;
    const request = dry => ({...chosen, dry_run: dry, rate: number("rate"), limit: Math.floor(number("limit")),
      canary: Math.floor(number("canary")), max_failures: Math.floor(number("failures"))});
    const shadow = async () => {
      try { end(await post("/api/replays", {...request(false), shadow: true})); } catch (error) { fill(problem, error.message); }
    };
    const dry = async () => {
      try { fill(problem, ""); fill(plan, planned(await post("/api/replays", request(true)))); } catch (error) { fill(problem, error.message); }
    };
    const start = async event => {
      event.preventDefault();
      try { end(await post("/api/replays", request(false))); } catch (error) { fill(problem, error.message); }
    };
    return h("form", {onsubmit: start}, h("p", {}, "Letters run through the same claim, handler and store as events, under their own ids: "
      + "what is stored already is not handled again."),
      h("div", {class: "fields"}, h("div", {}, field("rate", "Rate", "letters a second; 0: no limit", "0")),
        h("div", {}, field("limit", "Limit", "letters at most; 0: all", "0")),
        h("div", {}, field("canary", "Canary", "the first so many must succeed", "0")),
        h("div", {}, field("failures", "Stop after failures", "0: go on", "0"))),
      plan, problem,
      h("div", {class: "row"}, h("button", {class: "main", type: "submit", autofocus: true}, "Start replay"),
        h("button", {type: "button", onclick: dry}, "Dry run"), h("button", {type: "button", onclick: shadow}, "Shadow run")),
      h("small", {}, "A shadow run runs today's handler in transactions that are rolled back, and reports what it would do. Effects are not sent. The handler must work in the transaction of its row."));
  });
}

function planned(plan) {
  const sums = {}, over = {};
  for (const one of plan.plans) {
    for (const [word, number] of Object.entries(one.by_reason)) sums[word] = (sums[word] ?? 0) + number;
    for (const [word, number] of Object.entries(one.passed_over)) over[word] = (over[word] ?? 0) + number;
  }
  const words = found => Object.entries(found).map(([word, number]) => `${count(number)} ${word}`).join(", ");
  return `It would replay ${count(plan.letters)}${plan.letters ? ` (${words(sums)})` : ""}`
    + `${Object.keys(over).length ? ` and pass over ${words(over)}` : ""}.`;
}
