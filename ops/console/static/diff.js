// The difference of two JSON values, line by line. A sign before each line says what colour says too.

import {h} from "./dom.js";

const MOST = 400;
const lines = value => (JSON.stringify(value, null, 2) ?? "").split("\n");

export function diff(before, after) {
  const marked = changes(lines(before), lines(after));
  if (!marked) return h("pre", {tabindex: "0"}, JSON.stringify(after, null, 2));
  return h("pre", {class: "diff", tabindex: "0"}, marked.map(([sign, line]) => h("span", {class: sign === "+" ? "good" : sign === "-" ? "bad" : undefined}, `${sign} ${line}\n`)));
}

// The lines with their signs, by the longest common subsequence; null if there are too many.
export function changes(one, other) {
  if (one.length > MOST || other.length > MOST) return null;
  const longest = Array.from({length: one.length + 1}, () => new Uint16Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--) for (let j = other.length - 1; j >= 0; j--) {
    longest[i][j] = one[i] === other[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  }
  const found = [];
  let i = 0, j = 0;
  while (i < one.length || j < other.length) {
    if (i < one.length && j < other.length && one[i] === other[j]) { found.push([" ", one[i]]); i++; j++; }
    else if (j >= other.length || (i < one.length && longest[i + 1][j] >= longest[i][j + 1])) found.push(["-", one[i++]]);
    else found.push(["+", other[j++]]);
  }
  return found;
}
