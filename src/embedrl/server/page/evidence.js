// Evidence, made visible: boxes over a picture, frames of a clip, words in a text, each with whether it holds.

import { el, svg } from "./element.js";
import { t } from "./language.js";
import { moment } from "./wording.js";

/** The kinds of evidence in the order in which an item lists them: the field of an answer, its heading, and what shows its pieces. */
export const KINDS = [
  { field: "key_frames", heading: "key_frames", list: (frames, jump) => frameStrip(frames, jump) },
  { field: "boxes", heading: "boxes", list: (boxes) => boxList(boxes) },
  { field: "keywords", heading: "keywords", list: (keywords) => keywordList(keywords) },
];

/** The evidence of a hit, with no pieces where it has none. */
export function evidenceOf(hit) {
  return { ...Object.fromEntries(KINDS.map(({ field }) => [field, []])), ...hit.evidence };
}

/** All evidence in words and pictures, under headings; `jump` is called with the time of a chosen frame. */
export function listed(evidence, jump) {
  return KINDS.filter(({ field }) => evidence[field].length).flatMap(({ field, heading, list }) => [el("h3", {}, t(heading)), list(evidence[field], jump)]);
}

/** A picture with boxes over it. Both fit into their frame the same way, so a box lies where it lies in the picture. */
export function pictureWithBoxes(source, alternative, boxes = []) {
  const picture = el("img", { alt: alternative, decoding: "async", draggable: "false" });
  const drawn = svg("svg", { class: "boxes", preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" });
  const frame = el("span", { class: "picture" }, picture, boxes.length ? drawn : null);
  picture.addEventListener("load", () => {
    const [width, height] = [picture.naturalWidth, picture.naturalHeight];
    drawn.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawn.replaceChildren(...boxes.flatMap(({ box, verified }) => shapes(box, verified, width / 1000, height / 1000)));
    frame.classList.add("loaded");
  });
  picture.addEventListener("error", () => {
    frame.classList.add("gone");
    frame.append(el("span", { class: "quiet" }, t("no_preview")));
  });
  picture.src = source;
  return frame;
}

/** A light line under a coloured one, so that a box shows on any picture. */
function shapes([left, top, right, bottom], verified, across, down) {
  const place = { x: left * across, y: top * down, width: Math.max(0, right - left) * across, height: Math.max(0, bottom - top) * down };
  const state = verified ? "verified" : "unverified";
  return [svg("rect", { class: `under ${state}`, ...place }), svg("rect", { class: `box ${state}`, ...place })];
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
  return el("span", { class: "frame unverified" }, el("span", {}, t("frame_n", { n: frame.number })), el("span", { class: "tag" }, t("unverified")));
}

/** Keywords as a list. */
export function keywordList(keywords) {
  const word = ({ text, verified }) =>
    el("li", { class: verified ? "keyword" : "keyword unverified" }, text, verified ? null : el("span", { class: "tag" }, t("unverified")));
  return el("ul", { class: "keywords", "aria-label": t("keywords") }, keywords.map(word));
}

/** Boxes as a list in words. */
function boxList(boxes) {
  const line = ({ box, verified }, at) =>
    el("li", { class: verified ? "" : "unverified" }, t("box_n", { n: at + 1 }), el("span", { class: "quiet" }, ` ${box.join(" ")} `), tag(verified));
  return el("ul", { class: "box-list", "aria-label": t("boxes") }, boxes.map(line));
}

function tag(verified) {
  return el("span", { class: verified ? "tag holds" : "tag" }, t(verified ? "verified" : "unverified"));
}

/** How many pieces do not hold. */
export function numUnverified(evidence) {
  return KINDS.flatMap(({ field }) => evidence[field]).filter((piece) => !piece.verified).length;
}

/** A text as nodes, in which verified keywords are marked wherever they stand as words. */
export function marked(text, keywords = []) {
  const wanted = keywords.filter((keyword) => keyword.verified && keyword.text.trim()).map((keyword) => keyword.text.trim());
  if (!wanted.length) return [text];
  const longestFirst = [...new Set(wanted)].sort((one, other) => other.length - one.length).map(escaped);
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${longestFirst.join("|")})(?![\\p{L}\\p{N}])`, "giu");
  return text.split(pattern).map((part, at) => (at % 2 ? el("mark", {}, part) : part));
}

function escaped(text) {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/gu, "\\$&");
}
