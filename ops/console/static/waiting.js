// What waits: listeners and routes that a person paused, routes that pause by themselves, events between two attempts, letters that heal by themselves, and keys that a letter blocks.

import {get, post} from "./api.js";
import {ago, count, dialog, drawer, h, span, table, time} from "./dom.js";

const EVENT = ["Next attempt", "Event", "+Type", "+Route", "+Attempt", "+Listener", "Last error"];
const HEALING = ["Failure", "Letters", "Next"];
const KEYS = ["Key", "Blocked since", "By the letter of", "Behind it"];

export const waiting = {
  title: "Waiting",
  enter(root, _path, say) {
    const pauses = h("div"), routes = h("div"), events = h("tbody"), healing = h("tbody"), keys = h("tbody"), away = h("p", {class: "warn", role: "status"});
    root.append(h("h2", {class: "hidden"}, "Waiting"), routes,
      h("section", {"aria-labelledby": "pauses"}, h("div", {class: "row spread"}, h("h2", {id: "pauses"}, "Paused by a person"),
        h("button", {onclick: async () => { try { if (await pause()) await showPauses(); } catch (error) { say(error.message); } }}, "Pause…")), pauses), away,
      h("section", {"aria-labelledby": "retries"}, h("h2", {id: "retries"}, "Events between two attempts"),
        h("p", {}, "A listener holds each of these, and tries it again. It becomes a dead letter only if its attempts are used up."),
        table("waiting", EVENT, events)),
      h("section", {"aria-labelledby": "healing"}, h("h2", {id: "healing"}, "Letters that heal by themselves"),
        h("p", {}, "Listeners try one letter of each failure. Once it succeeds, the others follow."), table("healing", HEALING, healing)),
      h("section", {"aria-labelledby": "keys"}, h("h2", {id: "keys"}, "Blocked keys"),
        h("p", {}, "Later events of a key wait, in order, until the letter that blocks it is stored, or archived so that they go on."), table("keys", KEYS, keys)));
    const drawRoutes = drawer(routes, drawnRoutes), drawAway = drawer(away, words => words);
    const drawEvents = drawer(events, all => all.length ? all.map(row) : empty(EVENT, "No event waits for another attempt."));
    const drawHealing = drawer(healing, all => all.length ? all.map(group) : empty(HEALING, "No letter heals."));
    const drawKeys = drawer(keys, all => all.length ? all.map(key) : empty(KEYS, "No key is blocked."));
    const drawPauses = drawer(pauses, all => all.length ? h("ul", {class: "problems"}, all.map(one => drawnPause(one, resume)))
      : h("p", {class: "empty"}, "Nothing is paused."));
    async function showPauses() { drawPauses((await get("/api/pauses")).pauses); }
    async function resume(one) {
      try { drawPauses((await post("/api/pauses/end", {kind: one.kind, name: one.name})).pauses); } catch (error) { say(error.message); }
    }
    return {
      async look(overview) {
        drawRoutes(overview.picture.listeners.flatMap(one => Object.entries(one.routes_paused).map(([name, why]) => [name, why, one.name])));
        try {
          await showPauses();
          const [found, letters, blocked] = await Promise.all([get("/api/waiting"), get("/api/letters/groups"), get("/api/letters/keys")]);
          drawKeys(blocked.keys.map(one => ({...one, age: ago(one.since)})));
          drawAway(Object.entries(found.away).map(([name, why]) => `No answer from ${name}: ${why}`).join("; "));
          drawEvents(found.listeners.flatMap(one => one.waiting.map(event => ({...event, seconds: Math.ceil(event.seconds), listener: one.instance})))
            .sort((one, other) => one.seconds - other.seconds));
          drawHealing(letters.groups.filter(one => one.healing).map(one => ({...one, last_at: undefined})));
        } catch (error) { say(error.message); }
      },
    };
  },
};

const empty = (names, text) => h("tr", {}, h("td", {colspan: String(names.length), class: "empty"}, text));

function drawnRoutes(all) {
  return all.length ? h("section", {"aria-labelledby": "routes"}, h("h2", {id: "routes"}, `Routes that pause (${all.length})`),
    h("ul", {class: "problems"}, all.map(([name, why, listener]) => h("li", {class: "bad"}, h("strong", {}, name), ` in listener ${listener}: ${why}`)))) : null;
}

function drawnPause(one, resume) {
  return h("li", {class: "warn"}, h("strong", {}, `${one.kind} ${one.name}`), " since ", time(one.since), ` by ${one.by}: ${one.why}`,
    h("div", {class: "row"}, h("button", {"data-key": `resume ${one.kind} ${one.name}`, onclick: () => resume(one)}, `Resume ${one.kind} ${one.name}`)));
}

// Asks for what to pause, and why. Gives true once it is paused.
async function pause() {
  const listeners = (await get("/api/overview")).picture.listeners.filter(one => !one.error);
  const names = [...listeners.map(one => ["listener", one.name]),
    ...[...new Set(listeners.flatMap(one => one.routes.map(route => route.name)))].map(name => ["route", name])];
  return dialog("Pause a listener or a route", end => {
    const what = h("select", {id: "what", autofocus: true}, names.map(([kind, name], index) => h("option", {value: String(index)}, `${kind} ${name}`)));
    const why = h("input", {id: "why", required: true, maxlength: "500", autocomplete: "off"}), problem = h("p", {class: "bad", role: "alert"});
    const done = async event => {
      event.preventDefault();
      const [kind, name] = names[Number(what.value)] ?? [];
      try {
        const answer = await post("/api/pauses", {kind, name, why: why.value});
        if (answer.changed) end(true); else problem.textContent = "It is paused already, or too much is.";
      } catch (error) { problem.textContent = error.message; }
    };
    return h("form", {onsubmit: done}, h("p", {}, "A paused listener reads nothing, and finishes what it holds; its peers go on. The events of a paused route wait "
      + "in memory. The pause lasts until somebody ends it, also across restarts."),
      h("label", {for: "what"}, "What"), what, h("label", {for: "why"}, "Why"), why, problem,
      h("div", {class: "row"}, h("button", {class: "main", type: "submit"}, "Pause")));
  });
}

function row(one) {
  return h("tr", {}, h("td", {}, one.seconds ? `in ${span(one.seconds)}` : "now"),
    h("td", {class: "id"}, h("a", {href: `#/events/${encodeURIComponent(one.event_id)}`, "data-key": one.event_id}, one.event_id)),
    h("td", {class: "more"}, one.type ?? ""), h("td", {class: "more"}, one.route), h("td", {class: "number more"}, count(one.attempt)),
    h("td", {class: "more"}, one.listener), h("td", {class: "detail"}, one.error));
}

function key(one) {
  const event = h("a", {href: one.letter_id ? `#/letters/letter/${encodeURIComponent(one.letter_id)}` : `#/events/${encodeURIComponent(one.event_id)}`, "data-key": `key ${one.event_id}`}, one.event_id);
  return h("tr", {}, h("td", {class: "id"}, one.order_key), h("td", {}, time(one.since), ` (${one.age})`),
    h("td", {class: "id"}, event, h("div", {class: "detail"}, [one.reason ?? "not listed yet", one.error_type, one.status, one.stops && "nothing is read meanwhile"].filter(Boolean).join(", "))),
    h("td", {class: "number"}, count(one.letters - 1)));
}

function group(one) {
  return h("tr", {}, h("td", {}, h("a", {class: "failure", href: `#/letters/group/${encodeURIComponent(one.fingerprint)}`, "data-key": one.fingerprint}, `${one.reason}: ${one.error_type}`),
    h("div", {class: "detail"}, one.message)), h("td", {class: "number"}, count(one.healing)), h("td", {}, one.next_try_at ? time(one.next_try_at) : "soon"));
}
