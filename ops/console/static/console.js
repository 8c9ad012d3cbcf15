// The frame: which view is shown, the sentence on top, and one look a second while the page can be seen.

import {get, returnToView, signedIn, signOut} from "./api.js";
import {count, h, outwards, safe, zone} from "./dom.js";
import {overview} from "./overview.js";
import {waiting} from "./waiting.js";
import {gaps} from "./gaps.js";
import {effects} from "./effects.js";
import {history} from "./history.js";
import {events} from "./events.js";
import {send} from "./send.js";
import {letters} from "./letters.js";
import {trail} from "./trail.js";
import {runbook} from "./runbook.js";

const EVERY = 1000, SAID_FOR = 8000;
const views = {overview, letters, waiting, gaps, effects, history, events, send, trail, runbook};
const find = id => document.getElementById(id);
let shown = null, last = null, timer = 0, quiet = 0, looking = false;

function say(text) {
  find("note").textContent = safe(text);
  clearTimeout(quiet);
  if (text) quiet = setTimeout(() => say(""), SAID_FOR);
}

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [name, ...rest] = path.split("/");
  const known = name in views ? name : "overview";
  return [known, rest.map(one => { try { return decodeURIComponent(one); } catch { return one; } }), new URLSearchParams(query)];
}

function show() {
  const [name, path, query] = route();
  shown?.leave?.();
  say("");
  for (const link of find("tabs").children) {
    const here = link.getAttribute("href") === `#/${name}`;
    if (here) { link.setAttribute("aria-current", "page"); link.scrollIntoView({block: "nearest", inline: "nearest"}); } else link.removeAttribute("aria-current");
  }
  document.title = `${views[name].title} · Unlost`;
  find("main").replaceChildren();
  shown = views[name].enter(find("main"), path, say, query);
  if (last) shown.look?.(last);
}

async function look() {
  if (looking || document.hidden) return;
  looking = true;
  clearTimeout(timer);
  try {
    last = await get("/api/overview");
    judge(last.verdict.level, last.verdict.sentence);
    mark(last.drills);
    find("links").replaceChildren(...outwards(last.links));
    const waiting = last.picture.letter_files.reduce((sum, one) => sum + one.waiting, 0);
    find("waiting").hidden = !waiting;
    find("waiting").textContent = count(waiting);
    await shown?.look?.(last);
  } catch (error) {
    judge("bad", `What is shown is old: ${error.message}`);
  } finally {
    looking = false;
    if (!document.hidden) timer = setTimeout(look, EVERY);
  }
}

const put = (id, text) => { if (find(id).textContent !== safe(text)) find(id).textContent = safe(text); };

function judge(level, sentence) {
  find("verdict").className = `verdict ${level}`;
  put("sentence", sentence);
}

// Which drill it is stands behind a click: a drill is an exercise, too, and its name would give the answer away.
function mark(drills) {
  const hurt = drills.some(one => one.state === "damaged");
  find("drill").hidden = !drills.length;
  put("drilled", !drills.length ? "" : hurt ? "A drill is running and damages the system now: it may be the cause of problems."
    : "A drill is running: it has not damaged anything yet, or the damage is repaired.");
  put("drills", drills.map(one => `${one.drill}: ${one.state === "damaged" ? "does damage" : "is running"}`).join("; "));
}

async function greet() {
  const {user} = await signedIn();
  if (user) find("person").replaceChildren(h("span", {}, `Signed in as ${user}. `), h("button", {class: "plain", onclick: signOut}, "Sign out"), " ");
}

find("zone").textContent = zone();
find("skip").addEventListener("click", event => { event.preventDefault(); find("main").focus(); });
addEventListener("hashchange", () => { show(); scrollTo(0, 0); });
addEventListener("keydown", event => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) shown?.escape?.();
});
document.addEventListener("visibilitychange", () => { if (document.hidden) clearTimeout(timer); else look(); });
returnToView();
show();
look();
greet().catch(() => {});
