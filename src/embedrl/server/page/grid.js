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
let places = new Map();
let cards = new Map();
let tell = () => ({});
let actions = {};
let layout = null; // what was measured: {columns, cardWidth, rowHeight, top}; measured anew only when the page changes, never while it scrolls
let inside = [0, 0];
let frame = 0;

/** `given`: open(hit, time_s), openUnit(unit), like(hit), dislike(hit), and near(last): the last entry that is close to the screen. */
export function startGrid(given) {
  actions = given;
  list.addEventListener("keydown", onKey);
  addEventListener("scroll", () => soon(layOut), { passive: true });
  addEventListener("resize", () => soon(measureAndLayOut));
  const observer = new ResizeObserver(() => soon(measureAndLayOut));
  for (const node of [list, document.body]) observer.observe(node); // what is above the list moves it, too
}

/** Show entries in this order. `told(entry)` gives what a card says beside its hit. A card stays as long as what it shows does. */
export function showEntries(newest, told) {
  const before = new Map([...cards].map(([key, card]) => [key, [card.node.offsetLeft, card.node.offsetTop]]));
  const focused = document.activeElement?.closest?.(".card")?.dataset.key;
  [entries, tell] = [newest, told];
  places = new Map(entries.map(({ hit }, at) => [hit.key, at]));
  const known = cards;
  cards = new Map();
  for (const entry of entries) {
    const card = known.get(entry.hit.key);
    if (card && content(card.entry) === content(entry)) cards.set(entry.hit.key, card);
  }
  for (const [key, card] of known) if (cards.get(key) !== card) card.node.remove();
  measureAndLayOut();
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
  return layout ? Math.max(0, Math.floor((scrollY - layout.top) / layout.rowHeight)) * layout.columns : 0;
}

export function scrollToEntry(at) {
  if (!layout) return;
  scrollTo({ top: at ? layout.top + Math.floor(at / layout.columns) * layout.rowHeight : 0, behavior: "instant" });
  layOut();
}

function soon(work) {
  if (frame && work === layOut) return; // what waits does this, too
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => {
    frame = 0;
    work();
  });
}

/** Measure the page, then put cards in their places. */
function measureAndLayOut() {
  const width = list.clientWidth;
  if (!width || !entries.length) {
    layout = null;
    list.style.height = "";
    if (!entries.length) {
      list.replaceChildren();
      cards.clear();
    }
    return;
  }
  const columns = Math.max(1, Math.floor((width + GAP) / (MIN_WIDTH + GAP)));
  const cardWidth = (width - GAP * (columns - 1)) / columns;
  const rowHeight = heightOfCards() + GAP;
  layout = { columns, cardWidth, rowHeight, top: list.getBoundingClientRect().top + scrollY };
  list.style.height = `${Math.ceil(entries.length / columns) * rowHeight}px`;
  layOut({ anew: true });
}

/** Put the cards of the rows near the screen into the document, each at its place, and take the others out. Measures nothing: while the
 * page scrolls, most frames find the same rows there and change nothing. */
function layOut({ anew = false } = {}) {
  if (!layout) return;
  const { columns, rowHeight } = layout;
  const above = scrollY - layout.top;
  const [first, last] = [above, above + innerHeight].map((edge) => Math.floor(edge / rowHeight));
  const from = Math.max(0, first - OVERSCAN_ROWS) * columns;
  const to = Math.min(entries.length, (last + 1 + OVERSCAN_ROWS) * columns);
  if (!anew && from === inside[0] && to === inside[1]) return;
  inside = [from, to];
  const focused = document.activeElement?.closest?.(".card")?.dataset.key;
  const near = Array.from({ length: Math.max(0, to - from) }, (_, at) => from + at);
  const kept = places.get(focused) ?? -1;
  if (kept >= 0 && kept < from) near.unshift(kept);
  if (kept >= to) near.push(kept);
  const keys = new Set(near.map((at) => entries[at].hit.key));
  for (const [key, card] of cards) if (!keys.has(key)) card.node.remove(); // first, so that no card that stays has to move
  const shown = new Map();
  let previous = null;
  for (const at of near) {
    const entry = entries[at];
    const known = cards.get(entry.hit.key);
    const card = known ?? makeCard(entry, actions);
    if (anew || !known) {
      card.update(entry, tell(entry));
      place(card.node, at);
    }
    shown.set(entry.hit.key, card);
    const next = previous ? previous.nextSibling : list.firstChild;
    if (next !== card.node) list.insertBefore(card.node, next);
    previous = card.node;
  }
  cards = shown;
  if (focused && !list.contains(document.activeElement)) cards.get(focused)?.open.focus({ preventScroll: true });
  actions.near(to);
}

function place(node, at) {
  const { columns, cardWidth, rowHeight } = layout;
  node.style.left = `${(at % columns) * (cardWidth + GAP)}px`;
  node.style.top = `${Math.floor(at / columns) * rowHeight}px`;
  node.style.width = `${cardWidth}px`;
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
  if (!layout) return;
  const { columns, rowHeight, top } = layout;
  const row = Math.floor(at / columns) * rowHeight + top;
  if (row < scrollY) scrollTo({ top: row - GAP, behavior: "instant" });
  if (row + rowHeight > scrollY + innerHeight) scrollTo({ top: row + rowHeight - innerHeight, behavior: "instant" });
  layOut();
  cards.get(entries[at].hit.key)?.open.focus({ preventScroll: true });
}

function onKey(event) {
  const key = event.target.closest(".card")?.dataset.key;
  if (!key || event.ctrlKey || event.metaKey || event.altKey) return;
  const at = places.get(key) ?? -1;
  const columns = layout?.columns ?? 1;
  const goal = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: entries.length - 1 }[event.key];
  if (goal !== undefined) {
    if (entries[goal]) focusAt(goal);
    else if (event.key === "ArrowUp") byId("text").focus();
  } else if (event.key === "+" || event.key === "=") actions.like(entries[at].hit);
  else if (event.key === "-") actions.dislike(entries[at].hit);
  else return;
  event.preventDefault();
}
