// Words marked in a text: keywords that were quoted, phrases that a query and an item share, and names of numbered boxes.

import { el } from "./element.js";

const FILLERS = new Set("a an and are as at by for from has have in is it its of on one or that the there this to with".split(" "));

/** A text as nodes, in which are marked: `keywords` that are quoted, `shared` phrases, and `names` of boxes, which get the boxes' numbers
 * and the class that `light(numbers)` and `dim()` are called for. */
export function marked(text, keywords = [], { shared = [], names = [], light = null, dim = null } = {}) {
  const quoted = new Set(keywords.filter(({ verified }) => verified).map(({ text: word }) => bare(word)).filter(Boolean));
  const asked = new Set(shared.map(bare).filter(Boolean));
  const numbers = numbered(names);
  const phrases = [...new Set([...quoted, ...asked, ...numbers.keys()])].sort((one, other) => other.length - one.length);
  if (!phrases.length) return [text];
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${phrases.map(loose).join("|")})(?![\\p{L}\\p{N}])`, "giu");
  return text.split(pattern).map((part, at) => {
    if (at % 2 === 0) return part;
    const phrase = bare(part);
    const boxes = [...numbers].filter(([name]) => ` ${phrase} `.includes(` ${name} `)).flatMap(([, found]) => found);
    const kind = asked.has(phrase) ? "asked" : quoted.has(phrase) ? "" : "named";
    const properties = boxes.length && light ? { onmouseenter: () => light(boxes), onmouseleave: dim } : {};
    return el("mark", { class: kind, ...properties }, part, boxes.length ? el("sup", {}, boxes.join(" ")) : null);
  });
}

/** A question as nodes: phrases that an item names are marked, words that it does not name are dimmed. */
export function answered(question, shared) {
  return marked(question, [], { shared }).flatMap((node) =>
    typeof node !== "string"
      ? [node]
      : node.split(/([\p{L}\p{N}]+)/u).map((part, at) => (at % 2 && !FILLERS.has(part.toLowerCase()) ? el("span", { class: "missing" }, part) : part)),
  );
}

/** Whether a text says nothing that another has not said: all of its words stand there. */
export function repeats(text, other) {
  const said = new Set(bare(other).split(" "));
  return bare(text).split(" ").every((word) => said.has(word));
}

/** Name -> numbers of the boxes that are called so. */
function numbered(names) {
  const numbers = new Map();
  names.forEach((name, at) => {
    const key = bare(name ?? "");
    if (key) numbers.set(key, [...(numbers.get(key) ?? []), at + 1]);
  });
  return numbers;
}

function bare(text) {
  return (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).join(" ");
}

/** A pattern of the words of a phrase, whatever stands between them. */
function loose(phrase) {
  return phrase.split(" ").join("[^\\p{L}\\p{N}]+");
}
