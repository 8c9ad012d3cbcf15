// Gaps: what a source sent and no listener received, as far as anybody knows, and what became of it.

import {get} from "./api.js";
import {count, counted, drawer, h, pill, table, time} from "./dom.js";

const GAP = ["Declared", "Source", "How", "+Missing", "Outcome", "+After", "+Resumed at"];
const OUTCOMES = {filled: "good", partly: "warn", failed: "bad"};
const HOW = {expired: "the source dropped events before they were read", unknown_cursor: "the source does not know the cursor", sequence: "numbers are missing",
  silence: "the source was silent for too long", disconnected: "the source was away, and does not resume", refused: "the source resumed at a later position"};

export const gaps = {
  title: "Gaps",
  enter(root, _path, say) {
    const body = h("tbody"), sum = h("p");
    root.append(h("section", {"aria-labelledby": "gaps"}, h("h2", {id: "gaps"}, "Declared gaps"),
      h("p", {}, "A gap is what a source sent, or may have sent, while no listener received it. Its events are in no row and no letter, unless they were fetched."),
      sum, table("gaps", GAP, body)));
    const draw = drawer(body, all => all.length ? all.map(row) : h("tr", {}, h("td", {colspan: String(GAP.length), class: "empty"}, "No gap is known.")));
    const drawSum = drawer(sum, ({found, shown}) => found > shown ? `The latest ${count(shown)} of ${counted(found, "gap")}.` : null);
    return {
      async look() {
        try {
          const found = await get("/api/gaps");
          draw(found.gaps);
          drawSum({found: found.count, shown: found.gaps.length});
        } catch (error) { say(error.message); }
      },
    };
  },
};

function row(one) {
  const missing = one.missing === null ? "unknown" : count(one.missing), more = {class: "more"};
  return h("tr", {}, h("td", {}, time(one.declared_at)), h("td", {class: "id"}, one.source), h("td", {class: "detail"}, HOW[one.how] ?? one.how.replaceAll("_", " ")),
    h("td", {class: "number more"}, missing),
    h("td", {}, pill(one.outcome ?? (one.fetches ? "being fetched" : "not fetched"), OUTCOMES[one.outcome] ?? "warn"),
      h("div", {class: "detail"}, [one.backfilled ? `${counted(one.backfilled, "event")} found` : "", one.why].filter(Boolean).join(": "))),
    h("td", more, one.after ?? ""), h("td", more, one.resumed_at ?? ""));
}
