// Dead letters: grouped by how they failed, one in full, replayed, put aside, brought back.

import {get, post} from "./api.js";
import {ago, count, dialog, drawer, fill, h, json, pill, time} from "./dom.js";
import {replays} from "./replays.js";

const STATES = {open: "warn", failed: "bad", quarantined: "bad", archived: "soft", resolved: "good"};
const groupLink = one => `#/letters/group/${encodeURIComponent(one)}`;
const letterLink = one => `#/letters/letter/${encodeURIComponent(one)}`;

export const letters = {
  title: "Dead letters",
  enter(root, [kind, id], say) {
    root.append(h("h2", {class: "hidden"}, "Dead letters"));
    const running = replays(root, say);
    const page = kind === "group" ? group(root, id, running, say) : kind === "letter" ? letter(root, id, running, say) : all(root, running, say);
    let seen = "";
    return {
      escape: kind ? () => { location.hash = "#/letters"; } : undefined,
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

function head(...names) {
  return h("thead", {}, h("tr", {}, names.map(one => h("th", {scope: "col"}, one))));
}

function all(root, running, say) {
  const body = h("tbody"), replayAll = h("button", {class: "main", onclick: tried(say, () => running.begin({everything: true}, "all dead letters that wait"))},
    "Replay all that wait…");
  root.append(h("section", {"aria-labelledby": "groups"}, h("div", {class: "row spread"}, h("h2", {id: "groups"}, "By failure"), replayAll),
    h("div", {class: "scroll"}, h("table", {class: "groups"}, head("Failure", "Letters", "States", "First", "Last"), body))));
  const errors = h("div", {role: "status"});
  root.prepend(errors);
  const drawErrors = drawer(errors, all => all.map(one => h("p", {class: "bad"}, one)));
  const draw = drawer(body, groups => groups.length ? groups.map(groupRow) :
    h("tr", {}, h("td", {colspan: "5", class: "empty"}, "No dead letters. What cannot succeed would stand here.")));
  return {
    async load() {
      try {
        const found = await get("/api/letters/groups");
        replayAll.disabled = !found.groups.some(one => one.waiting);
        drawErrors(found.errors);
        draw(found.groups);
      } catch (error) { say(error.message); }
    },
  };
}

function groupRow(one) {
  return h("tr", {}, h("td", {}, h("a", {class: "failure", href: groupLink(one.fingerprint), "data-key": one.fingerprint}, one.reason, ": ", one.error_type),
    h("div", {class: "detail"}, one.message)),
    h("td", {class: "number"}, count(one.letters)), h("td", {}, states(one.by_state)),
    h("td", {}, time(one.first_at)), h("td", {}, time(one.last_at)));
}

function group(root, fingerprint, running, say) {
  const body = h("tbody"), title = h("h2", {id: "group"}, "Group ", fingerprint), about = h("p", {class: "lead bad"});
  const chosen = {fingerprint};
  root.append(h("p", {}, h("a", {href: "#/letters"}, "← all groups")), h("section", {"aria-labelledby": "group"}, title, about,
    actions(chosen, "this group", running, say),
    h("div", {class: "scroll"}, h("table", {class: "letters"}, head("Last", "Event", "State", "By", "Replays"), body))));
  const draw = drawer(body, page => page.letters.map(letterRow));
  return {
    async load() {
      try {
        const page = await get(`/api/letters?fingerprint=${encodeURIComponent(fingerprint)}&limit=200`);
        const first = page.letters[0];
        fill(about, first ? `${first.reason}: ${first.error_type}: ${first.message}` : "No letter of this group is left.");
        title.textContent = `${count(page.count)} letters that failed alike`;
        draw(page);
      } catch (error) { say(error.message); }
    },
  };
}

function letterRow(one) {
  return h("tr", {}, h("td", {}, time(one.last_at)),
    h("td", {class: "id"}, h("a", {href: letterLink(one.letter_id), "data-key": one.letter_id}, one.event_id ?? "(no valid event)")),
    h("td", {}, pill(one.state.status, STATES[one.state.status])), h("td", {}, one.instance),
    h("td", {class: "number"}, count(one.state.failed_replays)));
}

function actions(chosen, what, running, say) {
  return h("div", {class: "row"},
    h("button", {class: "main", onclick: tried(say, () => running.begin(chosen, what))}, "Replay…"),
    h("button", {onclick: tried(say, () => archive(chosen, what, say))}, "Archive…"),
    h("button", {onclick: tried(say, async () => {
      const done = await post("/api/letters/restore", chosen);
      say(`${count(done.restored)} brought back`);
    })}, "Restore"));
}

async function archive(chosen, what, say) {
  const why = await dialog(`Archive ${what}`, end => {
    const input = h("input", {id: "why", autofocus: true, required: true, maxlength: "500", autocomplete: "off"});
    const done = event => { event.preventDefault(); if (input.value.trim()) end(input.value.trim()); };
    return h("form", {onsubmit: done}, h("p", {}, "A replay passes over archived letters. Restore brings them back."),
      h("label", {for: "why"}, "Why"), input, h("div", {class: "row"}, h("button", {class: "main", type: "submit"}, "Archive")));
  });
  if (why === null) return;
  const done = await post("/api/letters/archive", {...chosen, why});
  say(`${count(done.archived)} archived`);
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
    h("p", {}, pill(one.state.status, STATES[one.state.status]), " ", one.state.detail),
    bar,
    h("dl", {class: "pairs wide"}, pair("Class", one.error_class), pair("Stage", one.stage), pair("SQLSTATE", one.sqlstate),
      pair("First", time(one.first_at)), pair("Last", [time(one.last_at), ` (${ago(one.last_at)})`]),
      pair("Written by", one.instance), pair("Handler", one.handler), pair("Epoch", String(one.epoch)), pair("Mode", one.mode),
      pair("Failed replays", String(one.state.failed_replays)), pair("Cursor", one.cursor),
      pair("Group", h("a", {href: groupLink(one.fingerprint)}, one.fingerprint)),
      one.event_id ? pair("Event", h("a", {href: `#/events/${encodeURIComponent(one.event_id)}`}, "its whole story")) : null,
      pair("Letter", one.letter_id), pair("File", one.file)),
    one.attempts.length ? [h("h3", {}, "Attempts"), h("ol", {class: "story"}, one.attempts.map(try_ => h("li", {}, time(try_.at, true),
      h("span", {class: "who"}, try_.stage), pill(try_.error_class, "bad"),
      h("span", {class: "detail"}, `${try_.error_type}: ${try_.message}`),
      try_.traceback ? h("pre", {class: "traceback"}, try_.traceback) : null)))] : null,
    h("h3", {}, one.event === undefined ? "Frame, as it came" : "Event"), json(event ?? ""),
  ];
}
