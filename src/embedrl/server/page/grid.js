// The results as rows of cards. Only rows near the screen are in the document, so that any number can be scrolled through; a card slides
// to its new place when ranks change, and arrow keys walk through all of them.

import { byId } from "./element.js";
import { makeCard } from "./card.js";
import { placeOf } from "./gather.js";

const GAP = 24;
const MIN_WIDTH = 236;
const OVERSCAN_ROWS = 2;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const list = byId("grid");
let entries = [];
let cards = new Map();
let tell = () => ({});
let actions = {};
let columns = 1;
let rowHeight = 0;
let frame = 0;

/** `given`: open(hit, time_s), openUnit(unit), like(hit), dislike(hit), and near(last): the last entry that is close to the screen. */
export function startGrid(given) {
  actions = given;
  list.addEventListener("keydown", onKey);
  addEventListener("scroll", soon, { passive: true });
  new ResizeObserver(soon).observe(list);
}

/** Show entries in this order. `told(entry)` gives what a card says beside its hit. A card stays as long as what it shows does. */
export function showEntries(newest, told) {
  const before = new Map([...cards].map(([key, card]) => [key, [card.node.offsetLeft, card.node.offsetTop]]));
  const focused = document.activeElement?.closest?.(".card")?.dataset.key;
  [entries, tell] = [newest, told];
  const known = cards;
  cards = new Map();
  for (const entry of entries) {
    const card = known.get(entry.hit.key);
    if (card && content(card.entry) === content(entry)) cards.set(entry.hit.key, card);
  }
  for (const [key, card] of known) if (cards.get(key) !== card) card.node.remove();
  layOut();
  if (focused && !list.contains(document.activeElement)) (cards.get(focused)?.open ?? byId("results")).focus({ preventScroll: true });
  if (!still.matches) slide(before);
}

/** Say anew what each card says beside its hit. */
export function tellEntries() {
  for (const card of cards.values()) card.update(card.entry, tell(card.entry));
}

export function focusCard(key) {
  const at = placeOf(entries, key);
  if (at >= 0) focusAt(at);
}

/** Go from the question to the first card. */
export function focusFirst() {
  if (entries.length) focusAt(0);
}

/** The first entry on the screen, and what brings it there again. */
export function topEntry() {
  return rowHeight ? Math.max(0, Math.floor((scrollY - top()) / rowHeight)) * columns : 0;
}

export function scrollToEntry(at) {
  scrollTo({ top: at ? top() + Math.floor(at / columns) * rowHeight : 0, behavior: "instant" });
  layOut();
}

function soon() {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(layOut);
}

function top() {
  return list.getBoundingClientRect().top + scrollY;
}

/** Put the cards of the rows near the screen into the document, each at its place, and take the others out. */
function layOut() {
  const width = list.clientWidth;
  if (!width || !entries.length) {
    list.style.height = "";
    if (!entries.length) {
      list.replaceChildren();
      cards.clear();
    }
    return;
  }
  columns = Math.max(1, Math.floor((width + GAP) / (MIN_WIDTH + GAP)));
  const cardWidth = (width - GAP * (columns - 1)) / columns;
  rowHeight = heightOfCards() + GAP;
  list.style.height = `${Math.ceil(entries.length / columns) * rowHeight}px`;
  const above = scrollY - top();
  const [first, last] = [above, above + innerHeight].map((edge) => Math.floor(edge / rowHeight));
  const from = Math.max(0, first - OVERSCAN_ROWS) * columns;
  const to = Math.min(entries.length, (last + 1 + OVERSCAN_ROWS) * columns);
  const focused = document.activeElement?.closest?.(".card")?.dataset.key;
  const near = entries.map((entry, at) => [entry, at]).filter(([entry, at]) => (at >= from && at < to) || entry.hit.key === focused);
  const keys = new Set(near.map(([entry]) => entry.hit.key));
  for (const [key, card] of cards) if (!keys.has(key)) card.node.remove(); // first, so that no card that stays has to move
  const shown = new Map();
  let previous = null;
  for (const [entry, at] of near) {
    const card = (cards.get(entry.hit.key) ?? makeCard(entry, actions)).update(entry, tell(entry));
    shown.set(entry.hit.key, card);
    place(card.node, at, cardWidth);
    const next = previous ? previous.nextSibling : list.firstChild;
    if (next !== card.node) list.insertBefore(card.node, next);
    previous = card.node;
  }
  cards = shown;
  if (focused && !list.contains(document.activeElement)) cards.get(focused)?.open.focus({ preventScroll: true });
  actions.near(to);
}

function place(node, at, width) {
  node.style.left = `${(at % columns) * (width + GAP)}px`;
  node.style.top = `${Math.floor(at / columns) * rowHeight}px`;
  node.style.width = `${width}px`;
  node.setAttribute("aria-posinset", String(at + 1));
  node.setAttribute("aria-setsize", String(entries.length));
}

/** All cards are equally high: the style says how high. */
function heightOfCards() {
  const probe = list.querySelector(".card");
  if (probe) return probe.offsetHeight;
  const card = makeCard(entries[0], actions);
  list.append(card.node);
  cards.set(entries[0].hit.key, card);
  return card.node.offsetHeight;
}

function content({ hit, others }) {
  return JSON.stringify([hit.name, hit.tcot, hit.evidence, hit.shared, others.map((other) => other.key)]);
}

function slide(before) {
  for (const [key, card] of cards) {
    const [from, to] = [before.get(key), [card.node.offsetLeft, card.node.offsetTop]];
    const path = from ? [{ transform: `translate(${from[0] - to[0]}px, ${from[1] - to[1]}px)` }, { transform: "none" }] : [{ opacity: 0 }, { opacity: 1 }];
    if (!from || from[0] !== to[0] || from[1] !== to[1]) card.node.animate(path, { duration: 260, easing: "ease-out" });
  }
}

function focusAt(at) {
  const row = Math.floor(at / columns) * rowHeight + top();
  if (row < scrollY) scrollTo({ top: row - GAP, behavior: "instant" });
  if (row + rowHeight > scrollY + innerHeight) scrollTo({ top: row + rowHeight - innerHeight, behavior: "instant" });
  layOut();
  cards.get(entries[at].hit.key)?.open.focus({ preventScroll: true });
}

function onKey(event) {
  const key = event.target.closest(".card")?.dataset.key;
  if (!key || event.ctrlKey || event.metaKey || event.altKey) return;
  const at = entries.findIndex((entry) => entry.hit.key === key);
  const goal = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: entries.length - 1 }[event.key];
  if (goal !== undefined) {
    if (entries[goal]) focusAt(goal);
    else if (event.key === "ArrowUp") byId("text").focus();
  } else if (event.key === "+" || event.key === "=") actions.like(entries[at].hit);
  else if (event.key === "-") actions.dislike(entries[at].hit);
  else return;
  event.preventDefault();
}
