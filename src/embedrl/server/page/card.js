// One found item in the grid.

import { el } from "./element.js";
import { evidenceOf, frameStrip, keywordList, marked, numUnverified, pictureWithBoxes } from "./evidence.js";
import { count, kindOf } from "./wording.js";

const MAX_KEYWORDS = 4;

/** Make the card of a hit. `actions`: open(hit, time_s), like(hit), dislike(hit). Its `update` says what is new about the same hit. */
export function makeCard(hit, actions) {
  const evidence = evidenceOf(hit);
  const rank = el("span", { class: "rank" });
  const moved = el("span", { class: "moved" });
  const score = el("span", { class: "score" });
  const reason = el("p", { class: "reason", hidden: true });
  const more = taste("More", "+", () => actions.like(card.hit));
  const less = taste("Less", "−", () => actions.dislike(card.hit));
  const open = el(
    "button",
    { type: "button", class: "open", "aria-label": `Open ${hit.name}, ${kindOf(hit)}`, onclick: () => actions.open(card.hit, firstTime(evidence)) },
    preview(hit, evidence),
    el("span", { class: "kind" }, kindOf(hit)),
  );
  const unverified = numUnverified(evidence);
  const node = el(
    "li",
    { class: `card ${hit.modality}`, "data-key": hit.key },
    open,
    el(
      "div",
      { class: "about" },
      el("p", { class: "line" }, rank, moved, score),
      el("h3", { title: [hit.path, ...hit.other_paths].join("\n") }, hit.name),
      reason,
      el("p", { class: "answer" }, says(hit, evidence)),
      evidence.key_frames.length ? frameStrip(evidence.key_frames, (time) => actions.open(card.hit, time)) : null,
      evidence.keywords.length ? keywordList(evidence.keywords.slice(0, MAX_KEYWORDS)) : null,
      unverified ? el("p", { class: "tag" }, `${count(unverified, "piece")} of evidence not verified`) : null,
      el("p", { class: "tastes" }, more, less),
    ),
  );
  const card = { hit, node, open, update };
  return card;

  function update(newest, { place = null, change = null, scored = true, taste: chosen = 0 } = {}) {
    card.hit = newest;
    rank.textContent = place === null ? "" : String(place);
    score.textContent = scored ? newest.score.toFixed(2) : "";
    score.title = scored ? "Cosine to what was asked, −1 to 1" : "";
    [moved.textContent, moved.title] = movement(change);
    moved.setAttribute("aria-label", moved.title);
    moved.hidden = !moved.textContent;
    reason.textContent = newest.reason ?? "";
    reason.hidden = !newest.reason;
    more.setAttribute("aria-pressed", String(chosen > 0));
    less.setAttribute("aria-pressed", String(chosen < 0));
    return card;
  }
}

/** How a rank changed, as a sign and in words. */
export function movement(change) {
  if (!change || change.now === null) return ["", ""];
  if (change.before === null) return ["new", `came in at ${change.now}`];
  const places = change.before - change.now;
  if (!places) return ["", ""];
  return places > 0 ? [`↑ ${places}`, `up ${count(places, "place")}, was ${change.before}`] : [`↓ ${-places}`, `down ${count(-places, "place")}, was ${change.before}`];
}

function preview(hit, evidence) {
  if (!hit.thumbnail) return el("span", { class: "words" }, marked(hit.excerpt || hit.name, evidence.keywords));
  return pictureWithBoxes(hit.thumbnail, "", hit.modality === "video" ? [] : evidence.boxes);
}

function says(hit, evidence) {
  if (hit.tcot) return marked(hit.tcot.answer, evidence.keywords);
  return hit.thumbnail ? [hit.excerpt] : [];
}

function taste(label, sign, choose) {
  const properties = { type: "button", class: "taste-button", "aria-pressed": "false", onclick: choose };
  return el("button", properties, el("span", { class: "sign", "aria-hidden": "true" }, sign), label, el("span", { class: "like" }, " like this"));
}

/** A clip opens where its evidence begins, as long as that holds. */
function firstTime(evidence) {
  return evidence.key_frames.find((frame) => frame.verified && frame.time_s !== null)?.time_s ?? null;
}
