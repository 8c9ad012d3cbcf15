// Recent events, and the whole story of one.

import {get} from "./api.js";
import {drawer, h, json, outwards, pill, time} from "./dom.js";

const PAGE = 50;
const STORY_AGAIN = 60;
const KINDS = {stored: "good", row: "good", resolved: "good", "dead letter": "bad", buried: "bad", failed: "bad",
  "attempt failed": "bad", lease_lost: "bad", taken_over: "warn", duplicate: "soft", standby: "soft", quarantined: "bad"};
const MEANINGS = {accepted: "The producer has it on disk", standby: "Another listener holds it; this one waits until it is settled",
  claimed: "This listener has the right to process it now", taken_over: "The lease of its owner ran out; it belongs to this listener now",
  stored: "This listener wrote its row", duplicate: "It was settled already when this listener claimed it", row: "When PostgreSQL got its row",
  lease_lost: "This listener lost its lease, and stopped its handler", buried: "This listener wrote a dead letter", failed: "An attempt failed",
  "in memory": "A listener holds it now"};
const link = id => `#/events/${encodeURIComponent(id)}`;

export const events = {
  title: "Events",
  enter(root, [wanted], say) {
    const input = h("input", {id: "search", type: "search", value: wanted ?? "", placeholder: "event id", autocomplete: "off",
      spellcheck: "false", enterkeyhint: "search"});
    const go = event => { event.preventDefault(); if (input.value.trim()) location.hash = link(input.value.trim()); };
    root.append(h("h2", {class: "hidden"}, "Events"), h("form", {class: "search", role: "search", onsubmit: go},
      h("label", {for: "search"}, "Find an event by its id"),
      h("div", {class: "row"}, input, h("button", {class: "main", type: "submit"}, "Show its story"))));
    return wanted ? story(root, wanted, say) : recent(root, say);
  },
};

function recent(root, say) {
  const body = h("tbody"), older = h("button", {hidden: true}, "Older"), newest = h("button", {hidden: true}, "Newest");
  let before = null;
  const draw = drawer(body, rows => rows.length ? rows.map(row) :
    h("tr", {}, h("td", {colspan: "6", class: "empty"}, "No event is stored yet. Send one.")));
  async function load() {
    try {
      const page = await get(`/api/events?limit=${PAGE}${before === null ? "" : `&before=${before}`}`);
      draw(page.events);
      say(page.behind_seconds === null ? "" : `From a standby, at most ${Math.ceil(page.behind_seconds)} s old.`);
      older.hidden = page.next === null;
      older.onclick = () => { before = page.next; load(); scrollTo(0, 0); };
      newest.hidden = before === null;
    } catch (error) { say(error.message); }
  }
  newest.onclick = () => { before = null; load(); };
  root.append(h("section", {"aria-labelledby": "recent"}, h("h2", {id: "recent"}, "Lately stored"),
    h("div", {class: "scroll"}, h("table", {class: "events"}, h("thead", {}, h("tr", {}, ["Stored", "Event", "Type", "By", "Tries", "Took"]
      .map(one => h("th", {scope: "col"}, one)))), body)),
    h("div", {class: "row"}, newest, older)));
  load();
  return {look: () => before === null ? load() : undefined};
}

function row(one) {
  const took = Date.parse(one.processed_at) - Date.parse(one.received_at);
  return h("tr", {}, h("td", {}, time(one.processed_at)),
    h("td", {class: "id"}, h("a", {href: link(one.event_id), "data-key": one.event_id}, one.event_id)),
    h("td", {}, one.type ?? ""), h("td", {}, one.instance_id), h("td", {class: one.attempts > 1 ? "warn" : ""}, String(one.attempts)),
    h("td", {}, `${Math.max(1, took)} ms`));
}

function story(root, wanted, say) {
  const box = h("section", {"aria-labelledby": "story", "aria-live": "polite"}, h("p", {}, "Asking every part…"));
  root.append(h("p", {}, h("a", {href: "#/events"}, "← all events")), box);
  const draw = drawer(box, known => drawn(known));
  let left = STORY_AGAIN;
  async function load() {
    try { draw(await get(`/api/events/${encodeURIComponent(wanted)}`)); } catch (error) { say(error.message); }
  }
  load();
  return {look: () => left-- > 0 ? load() : undefined, escape: () => { location.hash = "#/events"; }};
}

function drawn(known) {
  const away = Object.entries(known.away);
  const end = known.row ? "good" : known.letters.some(one => one.state.status !== "resolved") ? "bad" : known.found ? "warn" : "soft";
  return [
    h("h2", {id: "story", class: "id"}, known.event_id),
    h("p", {class: `lead ${end}`}, known.sentence),
    h("p", {class: "links"}, outwards(known.links)),
    away.length ? h("p", {class: "warn"}, `No answer from: ${away.map(([name, why]) => `${name} (${why})`).join("; ")}`) : null,
    known.steps.length ? h("ol", {class: "story"}, known.steps.map(one => h("li", {}, time(one.at, true), h("span", {class: "who"}, one.who),
      
      pill(one.what.replace("_", " "), KINDS[one.what] ?? "plain", MEANINGS[one.what]), h("span", {class: "detail"}, one.detail)))) : null,
    known.letters.map(one => h("p", {}, h("a", {href: `#/letters/letter/${encodeURIComponent(one.letter_id)}`}, "Open its dead letter"),
      ` (${one.reason}, ${one.state.status})`)),
    known.row ? [h("h3", {}, "Payload"), json(known.row.payload)] : known.letters.length ? [h("h3", {}, "Event"),
      json(known.letters.at(-1).event ?? known.letters.at(-1).raw_text ?? "")] : null,
    known.row ? h("details", {}, h("summary", {}, "The row"), json(known.row)) : null,
  ];
}
