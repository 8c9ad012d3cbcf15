// Dead letters: grouped by how they failed, one in full, replayed, put aside, brought back.

import {get, post} from "./api.js";
import {ago, count, counted, dialog, drawer, fill, h, json, pill, table, time} from "./dom.js";
import {diff} from "./diff.js";
import {chosenBy, filters, isFiltered, withQuery} from "./filters.js";
import {replays} from "./replays.js";

const SHOWN = 50;
const FOLLOWERS = [["", "choose"], ["wait", "wait until the letter is restored"], ["go", "go on without it: its order is given up"]];
const STATES = {open: "warn", failed: "bad", quarantined: "bad", archived: "soft", resolved: "good"};
const groupLink = one => `#/letters/group/${encodeURIComponent(one)}`;
const letterLink = one => `#/letters/letter/${encodeURIComponent(one)}`;

export const letters = {
  title: "Dead letters",
  enter(root, [kind, id], say, query) {
    root.append(h("h2", {class: "hidden"}, "Dead letters"));
    const running = replays(root, say);
    const page = kind === "group" ? group(root, id, running, say, query) : kind === "letter" ? letter(root, id, running, say) : all(root, running, say, query);
    let seen = "";
    return {
      escape: kind ? () => { location.hash = withQuery("#/letters", query); } : undefined,
      async look(overview) {
        await running.look();
        const now = JSON.stringify(overview.picture.letter_files);
        if (now !== seen) { seen = now; await page.load(); }
      },
    };
  },
};

const tried = (say, work) => async () => { try { await work(); } catch (error) { say(error.message); } };

function states(byState) {
  return Object.entries(byState).map(([word, number]) => [pill(`${count(number)} ${word}`, STATES[word] ?? "plain"), " "]);
}

function healing(one) {
  if (!one.healing) return null;
  return h("div", {class: "detail"}, `${count(one.healing)} ${one.healing === 1 ? "heals by itself" : "heal by themselves"}`, one.next_try_at ? [", not before ", time(one.next_try_at)] : null);
}

const GROUP = ["Failure", "+Type, route, handler", "+Letters", "States", "+First", "+Last"];
const LETTER = ["Last", "Event", "+Type", "State", "+Written by", "+Replays"];

function all(root, running, say, query) {
  const found = isFiltered(query), chosen = chosenBy(query), what = found ? "these letters" : "all dead letters that wait";
  const body = h("tbody"), over = h("tbody"), past = h("details", {hidden: true}, h("summary", {}), table("groups", GROUP, over));
  const bar = found ? actions(chosen, what, running, say) : h("button", {class: "main", onclick: tried(say, () => running.begin(chosen, what))}, "Replay all that wait…");
  const errors = h("div", {role: "status"}), alone = h("div"), matching = h("div");
  root.prepend(errors);
  root.append(filters(query, "#/letters"), h("section", {"aria-labelledby": "groups"},
    h("div", {class: "row spread"}, h("h2", {id: "groups"}, found ? "Matching letters by failure" : "By failure"), bar),
    table("groups", GROUP, body), past), matching, alone);
  const drawAlone = drawer(alone, all => all.length ? h("section", {"aria-labelledby": "alone"}, h("h2", {id: "alone"}, "In a file alone"),
    h("p", {}, "The listener that wrote these has not shipped them to the fleet's list yet. It will, once it reaches PostgreSQL."),
    table("letters", LETTER, h("tbody", {}, all.map(letterRow)))) : null);
  const drawMatching = drawer(matching, page => page.letters.length ? h("section", {"aria-labelledby": "matching"},
    h("h2", {id: "matching"}, `The latest ${count(page.letters.length)} of ${counted(page.count, "letter")}`),
    table("letters", LETTER, h("tbody", {}, page.letters.map(letterRow)))) : null);
  const drawErrors = drawer(errors, all => all.map(one => h("p", {class: "bad"}, one)));
  const draw = drawer(body, groups => groups.length ? groups.map(one => groupRow(one, query)) :
    h("tr", {}, h("td", {colspan: "6", class: "empty"}, found ? "No letter that needs anything matches." : "No dead letter waits.")));
  const drawOver = drawer(over, groups => groups.map(one => groupRow(one, query)));
  return {
    async load() {
      try {
        const known = await get(`/api/letters/groups?${query}`), live = known.groups.filter(needsAnything), rest = known.groups.filter(one => !needsAnything(one));
        if (!found) bar.disabled = !known.groups.some(one => one.waiting);
        past.hidden = !rest.length;
        past.firstChild.textContent = `Resolved and archived: ${counted(rest.length, "group")}`;
        if (!live.length && rest.length && found) past.open = true;
        drawErrors(known.errors);
        draw(live);
        drawOver(rest);
        drawAlone(known.unshipped);
        if (found) drawMatching(await get(`/api/letters?${query}&limit=${SHOWN}`));
      } catch (error) { say(error.message); }
    },
  };
}

const needsAnything = one => one.waiting > 0 || Boolean(one.by_state.quarantined);

const kindOf = one => [one.type, one.route, one.handler].filter(Boolean).map(word => h("div", {class: "detail"}, word));

function groupRow(one, query) {
  const more = {class: "more"};
  return h("tr", {}, h("td", {}, h("a", {class: "failure", href: withQuery(groupLink(one.fingerprint), query), "data-key": one.fingerprint}, one.reason, ": ", one.error_type),
    h("div", {class: "detail"}, one.message)),
    h("td", more, kindOf(one)), h("td", {class: "number more"}, count(one.letters)), h("td", {}, states(one.by_state), healing(one)),
    h("td", more, time(one.first_at)), h("td", more, time(one.last_at)));
}

function group(root, fingerprint, running, say, query) {
  const body = h("tbody"), title = h("h2", {id: "group"}, "Group ", fingerprint), about = h("p", {class: "lead bad"});
  const chosen = {...chosenBy(query), fingerprint, everything: false}, wanted = new URLSearchParams(query);
  wanted.set("fingerprint", fingerprint);
  root.append(h("p", {}, h("a", {href: withQuery("#/letters", query)}, "← all groups")), h("section", {"aria-labelledby": "group"}, title, about,
    actions(chosen, "this group", running, say), table("letters", LETTER, body)), filters(query, groupLink(fingerprint)));
  const draw = drawer(body, page => page.letters.map(letterRow));
  return {
    async load() {
      try {
        const page = await get(`/api/letters?${wanted}&limit=200`);
        const first = page.letters[0];
        fill(about, first ? `${first.reason}: ${first.error_type}: ${first.message}` : "No letter of this group is left.");
        title.textContent = `${counted(page.count, "letter")} that failed alike`;
        draw(page);
      } catch (error) { say(error.message); }
    },
  };
}

function letterRow(one) {
  const more = {class: "more"};
  return h("tr", {}, h("td", {}, time(one.last_at)),
    h("td", {class: "id"}, h("a", {href: letterLink(one.letter_id), "data-key": one.letter_id}, one.event_id ?? "(no valid event)")),
    h("td", more, one.type ?? ""), h("td", {}, pill(one.state.status, STATES[one.state.status]), alone(one), changedBy(one)),
    h("td", more, one.instance), h("td", {class: "number more"}, count(one.state.failed_replays)));
}

function alone(one) {
  return one.unshipped ? [" ", pill("in a file alone", "warn")] : null;
}

function changedBy(one) {
  return one.state.by ? h("div", {class: "detail"}, `by ${one.state.by}`) : null;
}

function actions(chosen, what, running, say) {
  return h("div", {class: "row"},
    h("button", {class: "main", onclick: tried(say, () => running.begin(chosen, what))}, "Replay…"),
    h("button", {onclick: tried(say, () => archive(chosen, what, say))}, "Archive…"),
    h("button", {onclick: tried(say, () => restore(chosen, what, say))}, chosen.ids ? "Restore" : "Restore…"));
}

const planned = (action, chosen) => post(`/api/letters/${action}`, {...chosen, dry_run: true});

async function archive(chosen, what, say) {
  const plan = await planned("archive", chosen);
  const said = await dialog(`Archive ${what}`, end => {
    const input = h("input", {id: "why", autofocus: true, required: true, maxlength: "500", autocomplete: "off"});
    const followers = h("select", {id: "followers", required: true}, FOLLOWERS.map(([value, words]) => h("option", {value}, words)));
    const done = event => {
      event.preventDefault();
      if (input.value.trim()) end({why: input.value.trim(), ...plan.blocking ? {followers: followers.value} : {}});
    };
    return h("form", {onsubmit: done}, h("p", {}, `It would archive ${counted(plan.archived, "letter")}. A replay skips archived letters. Restore brings them back.`),
      plan.blocking ? [h("p", {class: "warn"}, `${counted(plan.blocking, "letter")} of these may block a key: later events of that key wait behind it, in order.`),
        h("label", {for: "followers"}, "Later events of the key"), followers] : null,
      h("label", {for: "why"}, "Why"), input, h("div", {class: "row"}, h("button", {class: "main", type: "submit"}, "Archive")));
  });
  if (said === null) return;
  const done = await post("/api/letters/archive", {...chosen, ...said});
  say(`${count(done.archived)} archived`);
}

async function restore(chosen, what, say) {
  const number = chosen.ids ? 1 : (await planned("restore", chosen)).restored;
  const sure = chosen.ids || await dialog(`Restore ${what}`, end => [
    h("p", {}, `It would restore ${counted(number, "letter")} from the archive and from quarantine. They wait for a replay then.`),
    h("div", {class: "row"}, h("button", {class: "main", autofocus: true, onclick: () => end(true)}, "Restore"))]);
  if (!sure) return;
  const done = await post("/api/letters/restore", chosen);
  say(`${count(done.restored)} restored`);
}

function letter(root, id, running, say) {
  const box = h("section", {"aria-labelledby": "letter"}), bar = h("div");
  root.append(h("p", {}, h("a", {href: "#/letters"}, "← all groups")), box);
  let barred = false;
  const draw = drawer(box, one => {
    if (!barred) { barred = true; bar.append(actions({ids: [one.letter_id], file: one.file}, "this letter", running, say)); }
    return drawnLetter(one, bar);
  });
  return {
    async load() {
      try { draw(await get(`/api/letters/${encodeURIComponent(id)}`)); } catch (error) { say(error.message); }
    },
  };
}

function drawnLetter(one, bar) {
  const pair = (name, value) => value === undefined || value === null || value === "" ? null : [h("dt", {}, name), h("dd", {}, value)];
  const event = one.event ?? one.raw_text ?? one.raw_base64;
  return [
    h("h2", {id: "letter", class: "id"}, one.event_id ?? "(no valid event)"),
    h("p", {class: "lead bad"}, `${one.reason}: ${one.error_type}: ${one.message}`),
    h("p", {}, pill(one.state.status, STATES[one.state.status]), alone(one), " ", one.state.detail),
    bar,
    h("dl", {class: "pairs wide"}, pair("Class", one.error_class), pair("Stage", one.stage), pair("SQLSTATE", one.sqlstate),
      pair("First", time(one.first_at)), pair("Last", [time(one.last_at), ` (${ago(one.last_at)})`]),
      pair("Type", one.type), pair("Route", one.route), pair("Handler", one.handler), pair("Written by", one.instance), pair("Epoch", String(one.epoch)), pair("Mode", one.mode),
      pair("Assigned cause", one.state.assigned), pair("Failed replays", String(one.state.failed_replays)), pair("Cursor", one.cursor),
      pair("Changed by", one.state.by), pair("Group", h("a", {href: groupLink(one.fingerprint)}, one.fingerprint)),
      one.event_id ? pair("Event", h("a", {href: `#/events/${encodeURIComponent(one.event_id)}`}, "its whole story")) : null,
      pair("Letter", one.letter_id), pair("File", one.file)),
    one.attempts.length ? [h("h3", {}, "Attempts"), h("ol", {class: "story"}, one.attempts.map(try_ => h("li", {}, time(try_.at, true),
      h("span", {class: "who"}, try_.stage), pill(try_.error_class, "bad"),
      h("span", {class: "detail"}, `${try_.error_type}: ${try_.message}`),
      try_.traceback ? h("pre", {class: "traceback", tabindex: "0"}, try_.traceback) : null)))] : null,
    one.edited === undefined ? null : [h("h3", {}, `Version ${one.version}, which a replay takes`), h("p", {}, "As a person edited it, compared with what the publisher sent. ", h("code", {}, "dlq show"), " has all versions."),
      diff(event ?? null, one.edited)],
    h("h3", {}, one.event === undefined ? "Frame, as it came" : one.edited === undefined ? "Event" : "Event, as the publisher sent it"), json(event ?? ""),
  ];
}
