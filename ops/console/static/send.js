// Sending events by hand, good ones and bad ones, and watching what becomes of each.

import {get, raw} from "./api.js";
import {count, fill, h, pill, span, time} from "./dom.js";

const SHOWN = 50, KEPT = 20000, GIVE_UP = 120000, AT_ONCE = 100;
const WORDS = {claimed: "claimed", taken_over: "claimed", standby: "claimed", failed: "claimed"};
const KINDS = {stored: "good", duplicate: "soft", dead: "bad", refused: "bad", claimed: "warn"};
const sent = [];
let lastBody = null, lastId = "", serial = 0;

const fresh = () => JSON.stringify({event_id: `console-${Date.now().toString(36)}-${++serial}`, type: "order.created",
  payload: {total: Math.round(Math.random() * 10000) / 100, currency: "EUR"}}, null, 2);

export const send = {
  title: "Send",
  enter(root, path, say) {
    const body = h("textarea", {id: "body", spellcheck: "false", rows: "9"}), many = h("input", {id: "many", type: "number",
      min: "1", max: "10000", value: "100"});
    const counts = h("dl", {class: "figures small"}), rows = h("tbody");
    body.value = fresh();
    const draw = () => { fill(counts, drawnCounts()); fill(rows, drawnRows()); };
    const tried = work => async () => { try { say(await work() ?? ""); } catch (error) { say(error.message); } draw(); };
    const button = (text, work, kind) => h("button", {class: kind ?? "", onclick: tried(work)}, text);
    root.append(h("h2", {class: "hidden"}, "Send"), h("section", {}, h("label", {for: "body"}, "Event, as JSON"), body,
      h("div", {class: "row"},
        button("Send event", async () => { lastBody = body.value; const answer = await publish(lastBody); lastId = answer.event_id ?? "";
          body.value = fresh(); return outcome(answer); }, "main"),
        button("Send the last one again", again),
        button("Send a malformed one", async () => outcome(await publish(`{"event_id": "bad-${Date.now()}", "payload": {"total": 1, "total": 2}}`))),
        button("Send one that cannot be stored", async () => outcome(await publish(`{"event_id": "doomed-${Date.now()}", "payload": 1e200000}`)))),
      h("div", {class: "row"}, h("label", {for: "many"}, "Burst of"), many,
        button("Send burst", () => burst(Math.max(1, Math.min(10000, Number(many.value) || 1)))))),
      h("section", {"aria-labelledby": "seen"}, h("h2", {id: "seen"}, "Sent from here"), counts,
        h("div", {class: "scroll"}, h("table", {class: "sent"}, h("thead", {}, h("tr", {}, ["Sent", "Event", "State", "By", "After", "Detail"]
          .map(one => h("th", {scope: "col"}, one)))), rows))));
    draw();
    return {look: async () => { if (await follow(say)) draw(); }};
  },
};

const outcome = answer => `${answer.status}${answer.error ? `: ${answer.error}` : ""}`;

function add(id, status, detail, since = 0) {
  const open = status === "accepted" || status === "redelivered";
  sent.unshift({id, state: open ? status : status === "duplicate" ? "duplicate" : "refused", by: "producer", detail: detail ?? "",
    at: Date.now(), after: null, since, open});
  sent.length = Math.min(sent.length, KEPT);
}

async function publish(text, query = "", since = 0) {
  const response = await raw(`/api/publish${query}`, text);
  const answer = await response.json();
  if (!answer.status) throw new Error(answer.error ?? `the console answered ${response.status}`);
  add(answer.event_id ?? "(none)", answer.status, answer.error, since);
  return answer;
}

async function again() {
  if (!lastId) return "Send one first.";
  const known = (await stories([lastId]))[lastId] ?? [];
  return outcome(await publish(lastBody, "?redeliver=true", Math.max(0, ...known.map(one => one.at))));
}

async function burst(number) {
  const lines = Array.from({length: number}, () => JSON.stringify(JSON.parse(fresh()))).join("\n");
  const started = performance.now();
  const response = await raw("/api/publish/batch", lines);
  const text = await response.text();
  if (!response.ok) throw new Error(text.slice(0, 300));
  const answer = text.trim().split("\n").map(line => JSON.parse(line));
  for (const one of answer) add(one.event_id, one.status, one.error);
  return `${count(answer.length)} answers in ${span((performance.now() - started) / 1000)}`;
}

const stories = async ids => (await get(`/api/follow?ids=${ids.map(encodeURIComponent).join(",")}`)).outcomes;

function learn(one, story) {
  for (const step of story) {
    if (step.at <= one.since) continue;
    const after = Math.max(0, step.at * 1000 - one.at);
    if (step.what === "stored") Object.assign(one, {state: "stored", by: step.instance, detail: "", after, open: false});
    else if (step.what === "buried") Object.assign(one, {state: "dead", by: step.instance, detail: step.detail, after, open: false});
    else if (one.open && one.state === "redelivered" && step.what === "duplicate") {
      Object.assign(one, {state: "duplicate", by: step.instance, after, open: false});
    } else if (one.open && WORDS[step.what]) Object.assign(one, {state: WORDS[step.what], by: step.instance, detail: step.detail});
  }
}

async function follow(say) {
  const waiting = sent.filter(one => one.open && Date.now() - one.at < GIVE_UP).slice(0, 10 * AT_ONCE);
  try {
    for (let start = 0; start < waiting.length; start += AT_ONCE) {
      const part = waiting.slice(start, start + AT_ONCE), answer = await stories(part.map(one => one.id));
      for (const one of part) learn(one, answer[one.id] ?? []);
    }
  } catch (error) { say(error.message); }
  return waiting.length > 0;
}

function drawnCounts() {
  return ["accepted", "claimed", "stored", "duplicate", "dead", "refused"].map(state => h("div", {}, h("dt", {}, state), h("dd", {},
    count(sent.filter(one => one.state === state || (state === "accepted" && one.state === "redelivered")).length))));
}

function drawnRows() {
  if (!sent.length) return h("tr", {}, h("td", {colspan: "6", class: "empty"}, "Nothing yet."));
  return sent.slice(0, SHOWN).map(one => h("tr", {}, h("td", {}, time(one.at / 1000)),
    h("td", {class: "id"}, h("a", {href: `#/events/${encodeURIComponent(one.id)}`, "data-key": `${one.id} ${one.at}`}, one.id)),
    h("td", {}, pill(one.state, KINDS[one.state] ?? "plain")), h("td", {}, one.by),
    h("td", {}, one.after === null ? "" : span(one.after / 1000)), h("td", {class: "detail"}, one.detail)));
}
