// Is everything all right? Rates, listeners, servers, and what to do about what is wrong.

import {ago, count, counted, drawer, h, pill, rate, span, spark, time} from "./dom.js";
import {drawnLately, lately} from "./lately.js";
import {runbookLink} from "./runbook.js";

const SECONDS = 120;
const STATES = {ready: "good", degraded: "warn", unready: "bad", away: "bad"};
const seen = {};
let lastAt = 0;

export const overview = {
  title: "Overview",
  enter(root) {
    const figures = h("dl", {class: "figures"}), problems = h("section", {"aria-labelledby": "wrong", hidden: true});
    const listeners = h("div", {class: "cards"}), rest = h("div", {class: "cards"});
    const past = h("section", {"aria-labelledby": "lately", hidden: true});
    root.append(h("h2", {class: "hidden"}, "Overview"), problems, figures,
      h("section", {class: "bare", "aria-labelledby": "who"}, h("h2", {id: "who"}, "Listeners"), listeners),
      h("section", {class: "bare", "aria-labelledby": "what"}, h("h2", {id: "what"}, "Around them"), rest), past);
    const drawFigures = drawer(figures, drawnFigures), drawListeners = drawer(listeners, all => all.map(listener));
    const drawProblems = drawer(problems, drawnProblems), drawRest = drawer(rest, drawnRest);
    const drawPast = drawer(past, drawnLately);
    return {
      look(overview) {
        remember(overview);
        drawFigures({...figuresOf(overview), past: seen});
        problems.hidden = !overview.verdict.problems.length;
        drawProblems(overview.verdict.problems);
        const changes = lately(overview);
        past.hidden = !changes.length;
        drawPast(changes);
        drawListeners(overview.picture.listeners);
        drawRest({producer: overview.picture.producer, database: overview.picture.database, behind: overview.behind,
          files: overview.picture.letter_files, listeners: overview.picture.listeners.map(one => [one.name, one.breakers, one.error])});
      },
    };
  },
};

function figuresOf(overview) {
  const up = overview.picture.listeners.filter(one => !one.error);
  const sum = name => up.reduce((total, one) => total + one.rates[name], 0);
  const slow = up.map(one => one.slow_seconds).filter(one => one !== undefined && one !== null);
  return {
    accepted: overview.picture.producer ? overview.picture.producer.accepted : null,
    stored: sum("stored"), retried: sum("retried"), behind: overview.behind, slow: slow.length ? Math.max(...slow) : null,
    waiting: overview.picture.letter_files.reduce((total, one) => total + one.waiting, 0),
  };
}

function remember(overview) {
  if (overview.picture.at === lastAt) return;
  lastAt = overview.picture.at;
  const figures = figuresOf(overview);
  for (const [name, value] of Object.entries(figures)) (seen[name] ??= []).push(value || 0);
  for (const values of Object.values(seen)) values.splice(0, values.length - SECONDS);
}

function drawnFigures(now) {
  const figure = (name, label, value, about) => h("div", {}, h("dt", {}, label), h("dd", {}, value,
    spark(now.past[name] ?? [], `${label}, the last two minutes`), h("span", {class: "about"}, about)));
  return [
    now.accepted === null ? null : figure("accepted", "Accepted", rate(now.accepted), "events a second"),
    figure("stored", "Stored", rate(now.stored), "events a second"),
    figure("retried", "Retried", rate(now.retried), "attempts a second"),
    figure("behind", "Behind", count(now.behind), "not settled yet"),
    figure("slow", "Time to settle", now.slow === null ? "–" : `≤ ${span(now.slow)}`, "99 of 100 events"),
    figure("waiting", "Dead letters", count(now.waiting), "wait for a replay"),
  ];
}

function drawnProblems(all) {
  return [h("h2", {id: "wrong"}, `What is wrong (${all.length})`), h("ul", {class: "problems"}, all.map(one =>
    h("li", {class: one.level}, h("strong", {}, one.what), one.since ? [", since ", time(one.since)] : "", ". ", one.affected,
      h("p", {class: "todo"}, h("strong", {}, "Do: "), one.todo),
      one.commands.length ? h("pre", {tabindex: "0"}, one.commands.join("\n")) : null,
      h("p", {class: "links"}, one.key === "letters" || one.key === "quarantine" ? h("a", {href: "#/letters"}, "Dead letters") : one.key.startsWith("pause: ") ? h("a", {href: "#/waiting"}, "Resume it") : null,
        one.runbook ? h("a", {href: runbookLink(one.runbook)}, `Runbook: ${one.runbook}`) : null))))];
}

function state(one) {
  if (one.error) return "away";
  if (!one.ready) return "unready";
  return one.degraded ? "degraded" : "ready";
}

function role(one) {
  const parts = [];
  if (one.holds) parts.push(`owner of ${count(one.holds)}`);
  if (one.standing_by) parts.push(`standby for ${count(one.standing_by)}`);
  return parts.join(", ") || "idle";
}

function claims(one) {
  const inPostgres = one.places.some(place => place.startsWith("postgres"));
  if (one.degraded) return "in PostgreSQL, without Redis";
  return inPostgres ? "in Redis, and in PostgreSQL for a peer without it" : "in Redis";
}

const line = (label, value, kind) => [h("dt", {}, label), h("dd", {class: kind ?? ""}, value)];

function listener(one) {
  const word = state(one);
  const head = h("header", {}, h("h3", {}, one.name), one.pauses.some(pause => pause.kind === "listener") ? pill("paused", "warn") : null, pill(word, STATES[word]));
  if (one.error) return h("article", {class: "card bad"}, head, h("p", {}, one.error), h("p", {class: "soft"}, one.url));
  const open = Object.entries(one.breakers).filter(([, value]) => value !== "closed").map(([name, value]) => `${name} ${value}`);
  return h("article", {class: `card ${STATES[word]}`}, head, h("dl", {class: "pairs"},
    line("Role", role(one)),
    line("Received", `${rate(one.rates.received)} /s`),
    line("Stored", `${rate(one.rates.stored)} /s`),
    line("Duplicates", `${rate(one.rates.duplicate)} /s`),
    line("Retries", `${rate(one.rates.retried)} /s`, one.rates.retried ? "warn" : ""),
    line("Behind", count(one.lag)),
    line("Claims", claims(one), one.degraded ? "warn" : ""),
    line("Breakers", open.join(", ") || "closed", open.length ? "bad" : ""),
    Object.values(one.causes).map(why => line("Cause", why, "bad")),
    one.source_lost ? line("Source last lost", one.source_lost, one.connected ? "" : "bad") : null,
    line("Letters written", count(one.letters))),
    one.reasons.length ? h("p", {class: "bad"}, one.reasons.join("; ")) : null);
}

function server(name, error, pairs, url, word = "away", kind = "bad") {
  return h("article", {class: `card ${error ? kind : "good"}`},
    h("header", {}, h("h3", {}, name), pill(error ? word : "well", error ? kind : "good")),
    error ? h("p", {class: kind}, error) : h("dl", {class: "pairs"}, pairs), url ? h("p", {class: "soft"}, url) : null);
}

function audited(audit) {
  if (!audit) return "none yet";
  return `${Object.keys(audit.wrong).length ? "not clean" : "clean"}, ${ago(audit.at)}`;
}

function drawnRest(now) {
  const {producer, database} = now;
  const without = now.listeners.filter(([, breakers, error]) => !error && breakers.redis && breakers.redis !== "closed").map(one => one[0]);
  const answering = now.listeners.filter(([, , error]) => !error).length;
  const producerError = producer && (producer.error || (producer.ready ? "" : producer.reasons.join("; ")));
  return [
    producer && server("Producer", producerError, [line("Accepted", `${rate(producer.accepted)} /s`),
      line("Journal", `${counted(producer.newest, "event")} so far`), line("Connected", counted(producer.clients, "listener"))], producer.url),
    database && server("PostgreSQL", database.error, [line("Rows", `${database.estimated ? "about " : ""}${count(database.rows)}`),
      line("Answers in", span(database.milliseconds / 1000)), line("Settled up to", database.settled_up_to ?? "–"),
      line("Last audit", audited(database.audit), database.audit && Object.keys(database.audit.wrong).length ? "bad" : "")]),
    answering ? server("Redis", without.length ? `Not reached by ${without.join(", ")}.` : "", [line("Reached by", counted(answering, "listener"))], "",
      ...without.length < answering ? ["not by all", "warn"] : []) : null,
    now.files.map(file => h("article", {class: `card ${file.error || file.waiting ? "warn" : "good"}`},
      h("header", {}, h("h3", {}, "Dead letters"), pill(file.waiting ? `${count(file.waiting)} wait` : "none waits", file.waiting ? "warn" : "good")),
      file.error ? h("p", {class: "bad"}, file.error) : h("dl", {class: "pairs"},
        line("Letters", count(file.letters)), line("Oldest waiting", ago(file.oldest_waiting_at)),
        file.fleet ? [line("Heal by themselves", count(file.healing)), line("Need a human", count(file.waiting - file.healing))] : [],
        line("Quarantine", count(file.by_state.quarantined ?? 0)), line("Archived", count(file.by_state.archived ?? 0)),
        file.damaged ? line("Damaged lines", count(file.damaged), "bad") : []),
      h("p", {class: "soft"}, file.path))),
  ];
}
