// The results: cards that move to their new places when ranks change, and that arrow keys walk through.

import { byId } from "./element.js";
import { makeCard } from "./card.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const list = byId("grid");
let cards = new Map();
let actions = {};

export function startGrid(given) {
  actions = given;
  list.addEventListener("keydown", onKey);
}

/** Show hits in this order. `told(hit, at)` gives what a card says beside its hit. A card stays as long as what it shows does. */
export function showHits(hits, told) {
  const before = places();
  const focused = document.activeElement?.closest?.(".card")?.dataset.key;
  cards = new Map(hits.map((hit, at) => [hit.key, cardOf(hit).update(hit, told(hit, at))]));
  list.replaceChildren(...[...cards.values()].map((card) => card.node));
  if (focused && !list.contains(document.activeElement)) (cards.get(focused)?.open ?? byId("results")).focus({ preventScroll: true });
  if (!still.matches) slide(before);
}

/** Say anew what each card says beside its hit. */
export function tellHits(told) {
  [...cards.values()].forEach((card, at) => card.update(card.hit, told(card.hit, at)));
}

/** The hits shown before and after one, for going through them. */
export function neighbours(key) {
  const hits = [...cards.values()].map((card) => card.hit);
  const at = hits.findIndex((hit) => hit.key === key);
  return at < 0 ? [null, null] : [hits[at - 1] ?? null, hits[at + 1] ?? null];
}

export function focusCard(key) {
  cards.get(key)?.open.focus();
}

function cardOf(hit) {
  const known = cards.get(hit.key);
  return known && content(known.hit) === content(hit) ? known : makeCard(hit, actions);
}

function content({ name, tcot, evidence }) {
  return JSON.stringify([name, tcot, evidence]);
}

function places() {
  return new Map([...cards].map(([key, card]) => [key, card.node.getBoundingClientRect()]));
}

function slide(before) {
  for (const [key, card] of cards) {
    const [from, to] = [before.get(key), card.node.getBoundingClientRect()];
    const path = from ? [{ transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)` }, { transform: "none" }] : [{ opacity: 0 }, { opacity: 1 }];
    if (!from || from.left !== to.left || from.top !== to.top) card.node.animate(path, { duration: 260, easing: "ease-out" });
  }
}

function onKey(event) {
  const card = event.target.closest(".card");
  if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
  const shown = [...cards.values()];
  const at = shown.findIndex((each) => each.node === card);
  const columns = shown.filter((each) => each.node.offsetTop === shown[0].node.offsetTop).length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (step !== undefined) shown[at + step]?.open.focus();
  else if (event.key === "+" || event.key === "=") actions.like(shown[at].hit);
  else if (event.key === "-") actions.dislike(shown[at].hit);
  else return;
  event.preventDefault();
}
