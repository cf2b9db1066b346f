// What a recommendation starts from: items to be like, and items to be unlike.

import { byId, el } from "./element.js";

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
  else chosen.set(hit.key, { sign, name: hit.name });
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
  draw();
}

/** The body of a recommendation, or null as long as there is nothing to be like. */
export function wanted() {
  const keys = (sign) => [...chosen].filter(([, choice]) => choice.sign === sign).map(([key]) => key);
  return keys(1).length ? { liked: keys(1), disliked: keys(-1), diversity } : null;
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
    ...side("More like", 1),
    ...side("Less like", -1),
    el("label", { class: "variety" }, "Variety", variety),
    el("button", { type: "button", onclick: () => (forgetTaste(), changed()) }, "Clear"),
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
      choices.map(([key, { name }]) => {
        const drop = el("button", { type: "button", class: "icon", "aria-label": `Leave out ${name}` }, "×");
        drop.addEventListener("click", () => choose({ key, name }, sign));
        return el("li", {}, el("span", { class: "name" }, name), drop);
      }),
    ),
  ];
}
