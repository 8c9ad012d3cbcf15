// Effects: calls to other systems that handlers recorded, and what waits for each receiver.

import {get} from "./api.js";
import {count, drawer, h, pill, table, time} from "./dom.js";

const EFFECT = ["Recorded", "Event", "+Receiver", "State", "+Attempts", "+Ended or next", "Last failure"];
const HOST = ["Receiver", "Waiting", "+Oldest", "Last failure"];
const STATES = {delivered: "good", waiting: "warn", buried: "bad"};
const WORDS = [["", "all"], ["waiting", "waiting"], ["buried", "buried"], ["delivered", "delivered"]];

export const effects = {
  title: "Effects",
  enter(root, [wanted], say) {
    const status = WORDS.some(([one]) => one === wanted) ? wanted : "";
    const body = h("tbody"), hosts = h("tbody"), waiting = h("section", {"aria-labelledby": "hosts", hidden: true}, h("h2", {id: "hosts"}, "What waits"), table("effects", HOST, hosts));
    root.append(waiting, h("section", {"aria-labelledby": "effects"}, h("div", {class: "row spread"}, h("h2", {id: "effects"}, "Effects of handlers"),
      h("div", {class: "choice", role: "group", "aria-label": "State"}, WORDS.map(([one, word]) => h("a", {href: `#/effects/${one}`, "aria-current": one === status ? "true" : undefined}, word)))),
      h("p", {}, "Each was recorded with the row of its event, and is delivered afterwards, at least once."), table("effects", EFFECT, body)));
    const draw = drawer(body, all => all.length ? all.map(row) : h("tr", {}, h("td", {colspan: String(EFFECT.length), class: "empty"}, "No effect.")));
    const drawHosts = drawer(hosts, all => all.map(one => h("tr", {}, h("td", {class: "id"}, one.host), h("td", {class: "number"}, count(one.waiting)),
      h("td", {class: "more"}, time(one.oldest_at)), h("td", {class: "detail"}, one.failure ?? ""))));
    return {
      async look() {
        try {
          const found = await get(`/api/effects?status=${status}`);
          waiting.hidden = !found.hosts.length;
          draw(found.effects);
          drawHosts(found.hosts);
        } catch (error) { say(error.message); }
      },
    };
  },
};

function row(one) {
  const more = {class: "more"};
  return h("tr", {}, h("td", {}, time(one.recorded_at)), h("td", {class: "id"}, h("a", {href: `#/events/${encodeURIComponent(one.event_id)}`, "data-key": `${one.event_id} ${one.number}`}, one.event_id)),
    h("td", {class: "more detail"}, one.kind === "publish" ? "the producer" : one.url), h("td", {}, pill(one.status, STATES[one.status] ?? "plain"),
      one.letter_id ? h("div", {class: "detail"}, h("a", {href: `#/letters/letter/${encodeURIComponent(one.letter_id)}`}, "its letter")) : null),
    h("td", {class: "number more"}, count(one.attempts)), h("td", more, one.ended_at || one.due_at ? time(one.ended_at ?? one.due_at) : ""), h("td", {class: "detail"}, one.failure ?? ""));
}
