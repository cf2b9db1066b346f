// What a recommendation starts from: items to be like, and items to be unlike.

import { byId, el } from "./element.js";
import { t } from "./language.js";

const bar = byId("taste");
const chosen = new Map();
let changed = () => {};
let diversity = 0;

export function startTaste(onChange) {
  changed = onChange;
}

/** Choose an item with a sign (1 or -1), or take the choice back. */
export function choose(hit, sign) {
  if (chosen.get(hit.key)?.sign === sign) chosen.delete(hit.key);
  else chosen.set(hit.key, { sign, name: hit.name, thumbnail: hit.thumbnail });
  draw();
  changed();
}

export function signOf(key) {
  return chosen.get(key)?.sign ?? 0;
}

export function isChosen() {
  return chosen.size > 0;
}

export function forgetTaste() {
  chosen.clear();
  diversity = 0;
  draw();
}

/** The choices of an address: keys, whose items `find(key)` promises; what is not there is left out. */
export async function readTaste({ like, dislike, variety }, find) {
  const known = new Map(chosen);
  const keys = [...like.map((key) => [key, 1]), ...dislike.filter((key) => !like.includes(key)).map((key) => [key, -1])];
  const items = await Promise.all(keys.map(([key]) => known.get(key) ?? find(key)));
  const choices = keys.flatMap(([key, sign], at) => (items[at] ? [[key, { sign, name: items[at].name, thumbnail: items[at].thumbnail }]] : []));
  return { choices, diversity: Math.min(0.9, Math.max(0, Number(variety) || 0)) };
}

/** Take choices that were read from an address. */
export function setTaste(read) {
  chosen.clear();
  read.choices.forEach(([key, choice]) => chosen.set(key, choice));
  diversity = read.diversity;
  draw();
}

/** The choices as an address holds them. */
export function tasteState() {
  const keys = (sign) => [...chosen].filter(([, choice]) => choice.sign === sign).map(([key]) => key);
  return { like: keys(1), dislike: keys(-1), variety: chosen.size && diversity ? String(diversity) : "" };
}

/** The names of the liked items. */
export function likedNames() {
  return [...chosen.values()].filter(({ sign }) => sign === 1).map(({ name }) => name);
}

/** The body of a recommendation, or null as long as there is nothing to be like. */
export function wanted() {
  const { like, dislike } = tasteState();
  return like.length ? { liked: like, disliked: dislike, diversity } : null;
}

function draw() {
  bar.hidden = !chosen.size;
  if (!chosen.size) return bar.replaceChildren();
  const variety = el("input", { type: "range", min: "0", max: "0.9", step: "0.1", value: String(diversity) });
  variety.addEventListener("change", () => {
    diversity = Number(variety.value);
    changed();
  });
  bar.replaceChildren(
    ...side(t("more_like"), 1),
    ...side(t("less_like"), -1),
    el("label", { class: "variety" }, t("variety"), variety),
    el("button", { type: "button", onclick: () => (forgetTaste(), changed()) }, t("clear")),
  );
  return undefined;
}

function side(title, sign) {
  const choices = [...chosen].filter(([, choice]) => choice.sign === sign);
  if (!choices.length) return [];
  return [
    el("span", { class: "quiet" }, title),
    el(
      "ul",
      { "aria-label": title },
      choices.map(([key, { name, thumbnail }]) => {
        const drop = el("button", { type: "button", class: "icon", "aria-label": t("leave_out", { name }) }, "×");
        drop.addEventListener("click", () => choose({ key, name, thumbnail }, sign));
        return el("li", {}, thumbnail ? el("img", { src: thumbnail, alt: "" }) : null, el("span", { class: "name", dir: "auto" }, name), drop);
      }),
    ),
  ];
}
