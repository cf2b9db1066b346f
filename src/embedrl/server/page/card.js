// One result in the grid.

import { el } from "./element.js";
import { evidenceOf, frameStrip, keywordList, numUnverified, pictureWithBoxes, wordsRead } from "./evidence.js";
import { t } from "./language.js";
import { marked, repeats } from "./marks.js";
import { clock, kindOf } from "./wording.js";

const MAX_KEYWORDS = 4;
const MAX_OTHERS = 3;

/** Make the card of an entry. `actions`: open(hit, time_s, plays), openUnit(unit), like(hit), dislike(hit). Its `update` says what is new about the same entry. */
export function makeCard(entry, actions) {
  const { hit, others } = entry;
  const evidence = evidenceOf(hit);
  const rank = el("span", { class: "rank" });
  const moved = el("span", { class: "moved" });
  const score = el("span", { class: "score" });
  const ranks = el("span", { class: "ranks" });
  const line = el("p", { class: "line" }, moved, ranks, score);
  const reason = el("p", { class: "reason", hidden: true });
  const more = taste("like", "+", () => actions.like(card.entry.hit));
  const less = taste("dislike", "−", () => actions.dislike(card.entry.hit));
  const open = el(
    "button",
    {
      type: "button",
      class: "open",
      "aria-label": t("open_item", { name: hit.name, kind: kindOf(hit) }),
      onclick: () => actions.open(card.entry.hit, firstTime(card.entry.hit)),
    },
    preview(hit, evidence),
    el("span", { class: "kind" }, kindOf(hit)),
  );
  const answer = says(hit);
  const unverified = numUnverified(evidence);
  const node = el(
    "li",
    { class: `card ${hit.modality}`, "data-key": hit.key, onclick: openAnywhere },
    open,
    el(
      "div",
      { class: "about" },
      el("div", { class: "head" }, rank, el("h3", { title: [hit.path, ...hit.other_paths].join("\n") }, el("bdi", {}, hit.name)), more, less),
      line,
      reason,
      hit.read.length ? wordsRead(hit.read.slice(0, 1), (time) => actions.open(card.entry.hit, time, true), hit.shared) : null,
      answer && !(hit.read.length && others.length) ? el("p", { class: "answer", dir: "auto" }, marked(answer, evidence.keywords, { shared: hit.shared })) : null,
      unverified ? el("p", { class: "tag" }, t("n_unverified", { n: unverified })) : null,
      others.length ? otherUnits(entry, actions) : details(hit, evidence, answer, actions, () => card.entry.hit),
    ),
  );
  const card = { entry, node, open, update };
  return card;

  /** A click between the buttons opens the result as well, unless it ends a selection of text. */
  function openAnywhere(event) {
    if (!event.target.closest("button, a, video, summary") && !getSelection().toString()) open.click();
  }

  function update(newest, { place = null, change = null, scored = true, taste: chosen = 0, why = "", ranks: both = "" } = {}) {
    card.entry = newest;
    rank.textContent = place === null ? "" : String(place);
    const number = newest.hit.score.toFixed(2);
    const isOfAnotherKind = both && !newest.hit.tcot && !newest.hit.without_reasoning;
    score.textContent = !scored ? "" : isOfAnotherKind ? t("plain_score", { number }) : number;
    score.title = !scored ? "" : t(isOfAnotherKind ? "plain_cosine" : "cosine");
    [moved.textContent, moved.title] = movement(change);
    moved.setAttribute("aria-label", moved.title);
    moved.hidden = !moved.textContent;
    ranks.textContent = both;
    line.hidden = !scored;
    reason.textContent = why;
    reason.title = why;
    reason.hidden = !why;
    more.setAttribute("aria-pressed", String(chosen > 0));
    less.setAttribute("aria-pressed", String(chosen < 0));
    return card;
  }
}

/** How a rank changed, as a sign and in words. */
export function movement(change) {
  if (!change || change.now === null) return ["", ""];
  if (change.before === null) return [t("new"), t("came_in", { now: change.now })];
  const places = change.before - change.now;
  if (!places) return ["", ""];
  const [sign, key] = places > 0 ? ["↑", "moved_up"] : ["↓", "moved_down"];
  return [`${sign} ${Math.abs(places)}`, t(key, { places: t("n_places", { n: Math.abs(places) }), before: change.before })];
}

function preview(hit, evidence) {
  if (!hit.thumbnail) return el("span", { class: "words", dir: "auto" }, marked(hit.excerpt || hit.name, evidence.keywords, { shared: hit.shared }));
  return pictureWithBoxes(hit.thumbnail, "", hit.modality === "video" ? [] : evidence.boxes);
}

/** A clip opens where the words are said that were asked for, else where its evidence begins, as long as that holds; a scene of a film
 * where it begins. */
function firstTime(hit) {
  const said = hit.read.find(({ start_s }) => start_s !== null);
  if (said) return said.start_s;
  const evident = evidenceOf(hit).key_frames.find((frame) => frame.verified && frame.time_s !== null);
  return evident?.time_s ?? (hit.unit ? hit.start_s : null);
}

/** The words of a card below its tile: nothing that the tile shows already. */
function says(hit) {
  const answer = hit.tcot ? hit.tcot.answer : hit.thumbnail ? hit.excerpt : "";
  return hit.thumbnail || !repeats(answer, hit.excerpt) ? answer : "";
}

/** The last row of a card: frames of a clip, else keywords that stand neither in the tile nor in the answer. */
function details(hit, evidence, answer, actions, current) {
  const there = evidence.key_frames.some(({ verified }) => verified);
  if (there || (evidence.key_frames.length && !evidence.keywords.length)) return frameStrip(evidence.key_frames, (time) => actions.open(current(), time, true));
  const fresh = evidence.keywords.filter(({ text, verified }) => !verified || !repeats(text, `${hit.thumbnail ? "" : hit.excerpt}\n${answer}`));
  return fresh.length ? keywordList(fresh.slice(0, MAX_KEYWORDS)) : null;
}

/** The other pages, scenes or passages of the same file that were found. */
function otherUnits({ hit, others, numOthers }, actions) {
  const title = t({ page: "others_pages", video: "others_scenes" }[hit.modality] ?? "others_file");
  const shown = others.slice(0, MAX_OTHERS);
  const rest = numOthers - shown.length;
  const unit = (other) => el("li", {}, el("button", { type: "button", onclick: () => actions.openUnit(other) }, shortName(other)));
  const more = rest > 0 ? el("li", {}, el("button", { type: "button", onclick: () => actions.open(hit, null) }, t("n_others", { n: rest }))) : null;
  return el("ul", { class: "others", "aria-label": title }, shown.map(unit), more);
}

/** The name of a unit on a card, where its list is called and room is short: a scene by its time alone. */
function shortName(other) {
  const isScene = other.unit && other.start_s !== null && other.start_char === null;
  return isScene ? clock(other.start_s) : unitName(other);
}

export function unitName({ page, unit, start_s, start_char }) {
  if (page) return t("other_page", { page });
  if (unit === 0) return t("other_whole");
  return start_s !== null && start_char === null ? t("other_scene", { time: clock(start_s ?? 0) }) : t("other_part", { n: unit ?? 1 });
}

function taste(key, sign, choose) {
  const properties = { type: "button", class: "taste-button icon", "aria-pressed": "false", "aria-label": t(key), title: t(key), onclick: choose };
  return el("button", properties, el("span", { "aria-hidden": "true" }, sign));
}
