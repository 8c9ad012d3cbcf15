// The trail: who changed what, the latest first.

import {get} from "./api.js";
import {drawer, h, table, time} from "./dom.js";

export const trail = {
  title: "Trail",
  enter(root, _path, say) {
    const body = h("tbody");
    root.append(h("section", {"aria-labelledby": "trail"}, h("h2", {id: "trail"}, "Who changed what"),
      h("p", {}, "The latest entries. ", h("code", {}, "unlost trail verify"), " checks that none was changed or removed."),
      table("trail", ["When", "Who", "+From", "What", "About", "+Result", "+Why"], body)));
    const draw = drawer(body, all => all.length ? all.map(row) : h("tr", {}, h("td", {colspan: "7", class: "empty"}, "Nobody has changed anything.")));
    return {
      async look() { try { draw((await get("/api/trail")).trail); } catch (error) { say(error.message); } },
    };
  },
};

function row(one) {
  return h("tr", {}, h("td", {}, time(one.at / 1e6)), h("td", {}, one.who), h("td", {class: "more"}, one.origin), h("td", {}, one.what),
    h("td", {class: "detail"}, one.about), h("td", {class: "more"}, one.result), h("td", {class: "more detail"}, one.why));
}
