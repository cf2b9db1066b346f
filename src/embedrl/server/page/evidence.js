// Evidence, made visible: boxes over a picture, frames of a clip, words in a text, each with whether it holds.

import { el, svg } from "./element.js";
import { checkWords, t } from "./language.js";
import { marked } from "./marks.js";
import { moment } from "./wording.js";

/** The kinds of evidence in the order in which an item lists them: the field of an answer, its heading, and what shows its pieces. The
 * heading names the check that pieces pass, unless each piece says so itself; each that fails does. */
export const KINDS = [
  { field: "key_frames", heading: "key_frames", list: (frames, jump) => frameStrip(frames, jump) },
  { field: "boxes", heading: "boxes", saysEach: true, list: (boxes, _, picture) => boxList(boxes, picture) },
  { field: "keywords", heading: "keywords", list: (keywords, jump) => keywordList(keywords, jump) },
];

/** The evidence of a hit, with no pieces where it has none. */
export function evidenceOf(hit) {
  return { ...Object.fromEntries(KINDS.map(({ field }) => [field, []])), ...hit.evidence };
}

/** All evidence in words and pictures, under headings; `jump` is called with the time of a chosen frame, `picture` lights
 * boxes up. */
export function listed(evidence, jump, picture) {
  return KINDS.filter(({ field }) => evidence[field].length).flatMap(({ field, heading, saysEach, list }) => {
    const checked = new Set(evidence[field].filter(({ verified }) => verified && !saysEach).map(({ check }) => checkWords(check)));
    return [el("h3", {}, t(heading), ...[...checked].map((words) => el("span", { class: "tag holds" }, words))), list(evidence[field], jump, picture)];
  });
}

/** A picture with boxes over it, numbered if that is wanted. Both fit into their frame the same way, so a box lies where it lies in the
 * picture. */
export function pictureWithBoxes(source, alternative, boxes = [], { isNumbered = false } = {}) {
  const picture = el("img", { alt: alternative, decoding: "async", draggable: "false" });
  const drawn = svg("svg", { class: "boxes", preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" });
  const frame = el("span", { class: "picture" }, picture, boxes.length ? drawn : null);
  picture.addEventListener("load", () => {
    const [width, height] = [picture.naturalWidth, picture.naturalHeight];
    drawn.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawn.replaceChildren(...boxes.flatMap((piece, at) => shapes(piece, isNumbered ? at + 1 : null, width, height)));
    frame.classList.add("loaded");
  });
  picture.addEventListener("error", () => {
    frame.classList.add("gone");
    frame.append(el("span", { class: "quiet" }, t("no_preview")));
  });
  picture.src = source;
  return frame;
}

/** Light some boxes of a picture up, by their numbers; none: as before. */
export function light(frame, numbers) {
  for (const node of frame.querySelectorAll("[data-number]")) node.classList.toggle("lit", numbers.includes(Number(node.dataset.number)));
  frame.classList.toggle("lights", numbers.length > 0);
}

/** A light line under a coloured one, so that a box shows on any picture, and its number at the corner. */
function shapes({ box: [left, top, right, bottom], verified }, number, width, height) {
  const [across, down] = [width / 1000, height / 1000];
  const place = { x: left * across, y: top * down, width: Math.max(0, right - left) * across, height: Math.max(0, bottom - top) * down };
  const state = verified ? "verified" : "unverified";
  const lines = [svg("rect", { class: `under ${state}`, ...place }), svg("rect", { class: `box ${state}`, ...place, "data-number": number })];
  if (!number || !verified) return lines;
  const size = Math.max(width, height) / 26;
  const label = { x: place.x, y: place.y, width: size * 1.2, height: size * 1.2 };
  return [...lines, svg("rect", { class: "number", ...label }), svg("text", { x: label.x + size * 0.6, y: label.y + size * 0.95, "font-size": size }, String(number))];
}

/** Key frames as a strip of buttons; `jump` is called with the time of the chosen one. */
export function frameStrip(frames, jump) {
  return el(
    "ul",
    { class: "frames", "aria-label": t("key_frames") },
    frames.map((frame) => el("li", {}, frame.verified && frame.time_s !== null ? frameButton(frame, jump) : lostFrame(frame))),
  );
}

function frameButton(frame, jump) {
  const values = { n: frame.number, time: moment(frame.time_s) };
  return el(
    "button",
    { type: "button", class: "frame", "aria-label": t("play_from", values), title: t("key_frame", values), onclick: () => jump(frame.time_s) },
    frame.image ? el("img", { src: frame.image, alt: "", loading: "lazy", decoding: "async" }) : null,
    el("span", {}, moment(frame.time_s)),
  );
}

function lostFrame(frame) {
  return el("span", { class: "frame unverified" }, el("span", {}, t("frame_n", { n: frame.number })), el("span", { class: "tag" }, checkWords(frame.check)));
}

/** Keywords as a list; `jump` is called with the time of a chosen one that is said in a clip. */
export function keywordList(keywords, jump = null) {
  const when = (place) =>
    jump && place && place.start_s !== null ? el("button", { type: "button", class: "tag", onclick: () => jump(place.start_s) }, moment(place.start_s)) : null;
  const word = ({ text, verified, check, place }) =>
    el("li", { class: verified ? "keyword" : "keyword unverified", title: `${text}: ${checkWords(check)}` }, el("bdi", {}, text), verified ? when(place) : el("span", { class: "tag" }, checkWords(check)));
  return el("ul", { class: "keywords", "aria-label": t("keywords") }, keywords.map(word));
}

/** Boxes as a list: number, name and what was checked; one that is pointed at lights up in the `picture`. */
function boxList(boxes, picture) {
  const line = ({ box, name, verified, check }, at) =>
    el(
      "li",
      {
        class: verified ? "" : "unverified",
        title: box.join(" "),
        "data-number": at + 1,
        onmouseenter: () => picture && light(picture, [at + 1]),
        onmouseleave: () => picture && light(picture, []),
      },
      el("b", { class: "badge" }, String(at + 1)),
      name ? el("bdi", {}, name) : el("span", { class: "quiet" }, t("box_n", { n: at + 1 })),
      el("span", { class: verified ? "tag holds" : "tag" }, checkWords(check)),
    );
  return el("ul", { class: "box-list", "aria-label": t("boxes") }, boxes.map(line));
}

/** Words that were read or heard in a medium, each with how; `jump` is called with the time of a chosen one. */
export function wordsRead(segments, jump, shared = []) {
  const line = ({ text, source, start_s }) => {
    const words = el("q", { class: "said", dir: "auto" }, marked(text, [], { shared }));
    if (start_s === null) return el("li", { title: t(`read_${source}`) }, words);
    const label = { type: "button", "aria-label": t("play_from_words", { time: moment(start_s) }), onclick: () => jump(start_s) };
    return el("li", { title: t(`read_${source}`) }, el("button", label, moment(start_s)), " ", words);
  };
  return el("ul", { class: "words-read", "aria-label": t("words_read") }, segments.map(line));
}

/** How many pieces do not hold. */
export function numUnverified(evidence) {
  return KINDS.flatMap(({ field }) => evidence[field]).filter((piece) => !piece.verified).length;
}
