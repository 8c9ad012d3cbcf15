// The runbook as it stands in the documents: headings, paragraphs, code, emphasis. Text is text, never markup.

import {h} from "./dom.js";

const INLINE = /\*\*(.+?)\*\*|\*(.+?)\*|`(.+?)`|\[(.+?)\]\((.+?)\)/g;
const anchor = heading => heading.toLowerCase().replaceAll(" ", "-");
export const runbookLink = name => `#/runbook/${anchor(name)}`;

export const runbook = {
  title: "Runbook",
  enter(root, [wanted], say) {
    const box = h("section", {class: "runbook"}, h("p", {}, "Opening the runbook…"));
    root.append(box);
    open(box, wanted).catch(() => say("the runbook cannot be read; does unlost console still run?"));
    return {escape: () => { location.hash = "#/overview"; }};
  },
};

async function open(box, wanted) {
  const response = await fetch("/static/runbook.md");
  if (!response.ok) throw new Error(response.status);
  box.replaceChildren(...drawn(await response.text()));
  const found = wanted && box.querySelector(`#${CSS.escape(`rb-${wanted}`)}`);
  found?.scrollIntoView();
  found?.focus({preventScroll: true});
}

function drawn(text) {
  const parts = [];
  for (const block of text.split(/(```[\s\S]*?```)/)) {
    if (block.startsWith("```")) parts.push(h("pre", {tabindex: "0"}, block.replace(/^```\w*\n|\n?```$/g, "")));
    else for (const part of block.split(/\n\s*\n|\n(?=#)|(?<=^#.*)\n/m)) if (part.trim()) parts.push(paragraph(part.trim()));
  }
  return parts;
}

function paragraph(text) {
  const [, depth, heading] = text.match(/^(#+) (.*)$/) ?? [];
  if (heading) return h(depth.length === 1 ? "h2" : "h3", {id: `rb-${anchor(heading)}`, tabindex: "-1"}, heading);
  return h("p", {}, inline(text));
}

function inline(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, bold, soft, code, label, target] = found;
    parts.push(text.slice(end, found.index), bold ? h("strong", {}, inline(bold)) : soft ? h("em", {}, inline(soft)) : code ? h("code", {}, code)
      : target.startsWith("#") ? h("a", {href: runbookLink(target.slice(1))}, label) : label);
    end = found.index + whole.length;
  }
  return [...parts, text.slice(end)];
}
