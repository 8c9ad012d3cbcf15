// The last days: events of each type and letters of each failure, from PostgreSQL alone.

import {get} from "./api.js";
import {count, drawer, h, span, spark, table, time} from "./dom.js";

const DAYS = [1, 3, 7, 14];
const NAMES = ["Name", "+Curve", "In all", "+At most", "+Last span from"];

export const history = {
  title: "History",
  enter(root, [wanted], say) {
    const days = DAYS.includes(Number(wanted)) ? Number(wanted) : 3;
    const types = h("tbody"), groups = h("tbody"), note = h("p", {class: "soft", role: "status"}, "Counting…");
    root.append(h("section", {"aria-labelledby": "types"}, h("div", {class: "row spread"}, h("h2", {id: "types"}, "Events by type"),
      h("div", {class: "choice", role: "group", "aria-label": "How long"}, DAYS.map(one => h("a", {href: `#/history/${one}`, "aria-current": one === days ? "true" : undefined},
        one === 1 ? "1 day" : `${one} days`)))), note, table("history", NAMES, types)),
      h("section", {"aria-labelledby": "failures"}, h("h2", {id: "failures"}, "Dead letters by failure"), table("history", NAMES, groups)));
    const empty = text => h("tr", {}, h("td", {colspan: String(NAMES.length), class: "empty"}, text));
    const drawTypes = drawer(types, ({all, known}) => all.length ? all.map(one => row(one, known, one.name)) : empty("No event was stored."));
    const drawGroups = drawer(groups, ({all, known}) => all.length ? all.map(one => row(one, known, one.fingerprint
      ? h("a", {href: `#/letters/group/${encodeURIComponent(one.fingerprint)}`, "data-key": one.fingerprint}, one.name) : one.name)) : empty("No letter was written."));
    const drawNote = drawer(note, known => [`Since `, time(known.begin), `, in spans of ${span(known.bucket_seconds)}. `,
      known.exact ? "Each row was counted." : "There are many rows, so these are estimates from a part of them.",
      known.letters_cut ? " Only the latest letters were counted." : ""]);
    return {
      async look() {
        try {
          const known = await get(`/api/history?days=${days}`), about = {begin: known.begin, width: known.bucket_seconds, exact: known.exact};
          drawTypes({all: known.types, known: about});
          drawGroups({all: known.groups, known: {...about, exact: true}});
          drawNote({...about, bucket_seconds: known.bucket_seconds, letters_cut: known.letters_cut});
        } catch (error) { say(error.message); }
      },
    };
  },
};

function row(one, known, name) {
  const last = one.counts.findLastIndex(number => number > 0), most = Math.max(...one.counts), about = known.exact ? "" : "about ";
  const label = `${one.name}: ${about}${count(one.total)} in all, at most ${count(most)} in ${span(known.width)}`;
  return h("tr", {}, h("td", {class: "detail strong"}, name, h("div", {class: "less"}, spark(one.counts, label))), h("td", {class: "more curve"}, spark(one.counts, label)),
    h("td", {class: "number"}, `${about}${count(one.total)}`), h("td", {class: "number more"}, `${about}${count(most)} in ${span(known.width)}`),
    h("td", {class: "more"}, last < 0 ? "–" : time(known.begin + last * known.width)));
}
