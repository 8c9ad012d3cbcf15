// What changed lately: what was wrong and is over, and what listeners say of their own past. The latest first.

import {count, h, pill, span, time} from "./dom.js";

const MOST = 12;
const SERVERS = {redis: "Redis", postgres: "PostgreSQL"};
const WORDS = {
  degraded: ["works without Redis", "warn"], normal: ["uses Redis again", "good"], source_connected: ["connected", "good"],
  source_lost: ["lost the source", "warn"], source_gap: ["gap in the source", "bad"], gap_fetched: ["fetched what a gap missed", "good"],
  events_differ: ["events differ for each connection", "bad"], reading_paused: ["stopped reading", "warn"],
  storing_paused: ["cannot store rows", "bad"],
  pause_began: ["was paused", "warn"], pause_ended: ["was resumed", "good"],
  route_paused: ["pauses a route", "bad"], route_resumed: ["goes on with a route", "good"],
  dead_letter_file_failed: ["cannot write letters", "bad"], dead_letter_file_recovered: ["writes letters again", "good"],
  events_taken_over: ["took over", "warn"], leases_lost: ["lost leases", "warn"], event_buried: ["buried", "bad"],
};
const EVENTS = ["events_taken_over", "leases_lost", "event_buried"];

export function lately(overview) {
  const own = overview.picture.listeners.flatMap(one => one.changes.map(change => ({...change, who: one.name})));
  const over = overview.verdict.lately.map(one => ({at: one.seen, episode: one}));
  return [...own, ...over].sort((one, other) => other.at - one.at).slice(0, MOST);
}

export function drawnLately(all) {
  if (!all.length) return [];
  return [h("h2", {id: "lately"}, "Lately"), h("ol", {class: "story lately"}, all.map(one => one.episode ? episode(one.episode) : change(one)))];
}

function episode(one) {
  return h("li", {}, time(one.seen), h("span", {class: "who"}, "all"), pill("over", "good"),
    h("span", {class: "detail"}, `${one.what}: from `, time(one.began), ` for ${span(Math.max(1, one.seen - one.began))}`));
}

function change(one) {
  const [word, kind] = one.what === "breaker_changed" ? breaker(one.detail) : WORDS[one.what] ?? [one.what.replaceAll("_", " "), "plain"];
  const events = EVENTS.includes(one.what);
  const often = events ? `${count(one.times)} ${one.times === 1 ? "event" : "events"}` : one.times > 1 ? `${count(one.times)} times` : "";
  const since = one.times > 1 && one.at - one.first_at >= 1 ? `within ${span(one.at - one.first_at)}` : "";
  const detail = one.what === "breaker_changed" ? "" : one.detail;
  return h("li", {}, time(one.at), h("span", {class: "who"}, one.who), pill(word, kind),
    h("span", {class: "detail"}, [often, since, detail].filter(Boolean).join(" · ")));
}

function breaker(detail) {
  const [name, state] = detail.split(" "), server = SERVERS[name] ?? name;
  return state === "closed" ? [`reaches ${server}`, "good"] : [`lost ${server}`, "bad"];
}
