// One item, large: its picture with boxes, its clip at the right moment, its page or text, and all of its evidence.

import { get, remove } from "./api.js";
import { unitName } from "./card.js";
import { byId, el, say } from "./element.js";
import { evidenceOf, light, listed, pictureWithBoxes, wordsRead } from "./evidence.js";
import { t } from "./language.js";
import { answered, marked } from "./marks.js";
import { day, failureWords, isHeard, kindOf, sentence } from "./wording.js";
import { zoomable } from "./zoom.js";

const dialog = byId("item");
let shown = null;
let zoom = null;
let leaves = false;
let actions = {};

/** `given`: neighbours(key), units(key), openUnit(unit), why(hit), like(hit), dislike(hit), ask(hit), opened(key, time_s), closed(key, leaves: for something else, follows: the address), removed(), reasoner(). */
export function startItem(given) {
  actions = given;
  dialog.addEventListener("close", () => {
    if (!dialog.open && shown !== null) ended(); // else this is told late: another item is open, or all is done
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", onKey);
}

export function openedItem() {
  return shown;
}

/** Close it, because the address says so; at once, since the dialog tells its end later. */
export function closeItem() {
  if (!dialog.open) return;
  dialog.close();
  ended({ follows: true });
}

function ended({ follows = false } = {}) {
  const [key, left] = [shown, leaves];
  shown = zoom = null;
  leaves = false;
  dialog.replaceChildren();
  actions.closed(key, left, follows);
}

/** Open an item; a clip starts at `time_s`, and plays if that is wanted. */
export async function openItem(hit, time_s = null, plays = false) {
  const isFirst = shown === null;
  shown = hit.key;
  time_s ??= hit.start_s || null; // a scene starts where it starts in its film
  const pressed = document.activeElement?.dataset.step;
  const jump = draw(hit, time_s, plays);
  if (!dialog.open) dialog.showModal();
  (dialog.querySelector(`[data-step="${pressed}"]:enabled`) ?? dialog).focus();
  actions.opened(hit.key, time_s, isFirst);
  const media = dialog.querySelector(".media");
  try {
    const whole = await getItem(hit.key);
    if (!media.isConnected) return; // another one was opened, or this one anew
    if (whole.segments.length) media.append(allWords(whole, jump));
    else if (whole.text) showText(whole, hit.shared);
  } catch (error) {
    if (media.isConnected) say(dialog.querySelector(".problem"), sentence(error));
  }
}

/** Ask for an item by its key. */
export function getItem(key) {
  const reasoner = actions.reasoner();
  return get(`/api/items/${key}`, reasoner ? { reasoner } : undefined);
}

function draw(hit, time_s, plays) {
  const evidence = evidenceOf(hit);
  const [before, after] = actions.neighbours(hit.key);
  const media = el("div", { class: "media" });
  zoom = null;
  const jump = show(media, hit, evidence, time_s, plays);
  const why = actions.why(hit);
  const picture = media.querySelector(".picture");
  const lights = picture ? { light: (numbers) => light(picture, numbers), dim: () => light(picture, []) } : {};
  const marks = { shared: hit.shared, names: evidence.boxes.map(({ name }) => name), ...lights };
  dialog.replaceChildren(
    el(
      "header",
      {},
      el("div", {}, el("h2", { id: "item-name", title: hit.name }, el("bdi", {}, hit.name)), el("p", { class: "quiet", title: hit.path }, facts(hit))),
      step("‹", "previous", before),
      step("›", "next", after),
      el("button", { type: "button", class: "icon", "aria-label": t("close"), onclick: () => dialog.close() }, "×"),
    ),
    media,
    el(
      "div",
      { class: "why" },
      el("p", { class: "problem", role: "alert", hidden: true }),
      why.reason ? el("p", { class: "reason" }, why.reason) : null,
      asked(hit, why),
      hit.read.length ? wordsRead(hit.read, jump, hit.shared) : null,
      hit.tcot ? el("p", { class: "answer", dir: "auto" }, marked(hit.tcot.answer, evidence.keywords, marks)) : null,
      hit.tcot_failure ? el("p", { class: "quiet" }, t("no_tcot", { why: failureWords(hit.tcot_failure) })) : null,
      listed(evidence, jump, picture),
      cropCheck(hit, evidence),
      hit.tcot ? thoughts(hit.tcot, evidence.keywords) : null,
      units(hit),
      el(
        "p",
        { class: "tastes" },
        act("like", () => actions.like(hit)),
        act("dislike", () => actions.dislike(hit)),
        act("look_for_this", () => actions.ask(hit)),
        el("a", { href: hit.media, target: "_blank", rel: "noopener" }, t("open_file")),
        hit.uploaded ? remover(hit) : null,
      ),
    ),
  );
  return jump;
}

/** Kind, place, day, camera and title, in one line. */
function facts(hit) {
  const parts = [kindOf(hit), hit.path, day(hit.captured_s ?? hit.modified_s), hit.camera, hit.about].filter(Boolean);
  return parts.flatMap((part, at) => [at ? " · " : null, el("bdi", {}, part)]);
}

/** What was asked, with the words that the item names and those that it does not, and its ranks with and without reasoning. */
function asked(hit, { question, ranks }) {
  if (!question && !ranks) return null;
  return el(
    "div",
    { class: "asked-for" },
    question ? [el("h3", {}, t("you_asked")), el("p", { dir: "auto" }, answered(question, hit.shared))] : null,
    hit.shared.length ? el("p", { class: "quiet" }, t("shared_words", { words: hit.shared.join(t("comma")) })) : null,
    ranks ? el("p", { class: "quiet" }, ranks) : null,
  );
}

/** Put the medium there, and return what jumps to a time in it and plays from there. */
function show(media, hit, evidence, time_s, plays) {
  if (hit.modality === "video" || isHeard(hit)) {
    const watched = { playsinline: true, poster: hit.picture };
    const player = el(isHeard(hit) ? "audio" : "video", { controls: true, preload: "auto", "aria-label": hit.name, ...(isHeard(hit) ? {} : watched) });
    const jump = (time) => {
      player.currentTime = time;
      player.focus();
      play(player);
    };
    player.addEventListener("error", () => complain(hit, player));
    player.src = time_s === null ? hit.media : `${hit.media}#t=${time_s}`;
    if (plays) player.addEventListener("loadedmetadata", () => jump(time_s), { once: true });
    media.append(player);
    return jump;
  }
  if (hit.picture) {
    zoom = zoomable(pictureWithBoxes(`${hit.picture}?max_side=1280`, hit.tcot?.answer || hit.name, evidence.boxes, { isNumbered: true }));
    zoom.node.querySelector("img").addEventListener("error", () => {
      zoom = null;
      media.querySelector(".zoom-buttons")?.remove();
      complain(hit);
    });
    media.append(zoom.node);
  }
  return () => {};
}

function play(player) {
  player.play().catch((error) => {
    if (error.name !== "AbortError" && error.name !== "NotAllowedError") player.dispatchEvent(new Event("error"));
  });
}

/** What cannot be shown may be gone, or a clip of a kind that this browser does not know: ask which, and show a frame of the clip in its
 * place. */
async function complain(hit, player = null) {
  const there = await fetch(hit.media, { method: "HEAD" }).then(({ ok }) => ok, () => true);
  if (shown !== hit.key) return;
  if (there && hit.modality === "video" && player?.isConnected) {
    zoom = zoomable(pictureWithBoxes(`${hit.picture}?max_side=1280`, hit.tcot?.answer || hit.name, []));
    player.replaceWith(zoom.node);
  }
  const why = !player ? "cannot_show" : isHeard(hit) ? "cannot_play_sound" : "cannot_play";
  say(dialog.querySelector(".problem"), t(there ? why : "media_gone"));
}

/** All words that were read or heard in an item; those with a time are played from there. */
function allWords({ segments, shared }, jump) {
  return el("details", {}, el("summary", {}, t("words_read")), el("div", { class: "prose", tabindex: "0", role: "region", "aria-label": t("words_read") }, wordsRead(segments, jump, shared)));
}

function showText(whole, shared) {
  const text = el("div", { class: "prose", dir: "auto", tabindex: "0", role: "region", "aria-label": t("text") }, marked(whole.text, whole.evidence?.keywords, { shared }));
  const media = dialog.querySelector(".media");
  if (whole.picture) media.append(el("details", {}, el("summary", {}, t("text_of_page")), text));
  else media.replaceChildren(text);
}

export function thoughts(tcot, keywords, heading = "h3") {
  const part = (title, words) => (words.trim() ? [el(heading, {}, title), el("p", { dir: "auto" }, marked(words.trim(), keywords))] : []);
  return el("details", { class: "thoughts" }, el("summary", {}, t("how_read")), part(t("thinking"), tcot.thinking), part(t("rethink"), tcot.rethink));
}

/** A button that has the crops of the boxes compared with their names, and says of each what came of it. */
function cropCheck(hit, { boxes }) {
  if (!boxes.some(({ name, verified }) => name && verified)) return null;
  const button = el("button", { type: "button" }, t("check_crops"));
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = t("checking");
    try {
      const reasoner = actions.reasoner();
      const { boxes: checked, num_others: n } = await get(`/api/items/${hit.key}/crops`, reasoner ? { reasoner } : undefined);
      if (!button.isConnected) return;
      checked.forEach(({ score, fits }, at) => {
        const line = dialog.querySelector(`.box-list [data-number="${at + 1}"]`);
        const said = score === null ? t("crop_unnamed") : t(fits ? "crop_fits" : "crop_fails", { percent: Math.round(100 * score), n });
        line?.append(el("span", { class: fits ? "tag holds" : "tag" }, said));
      });
      button.remove();
    } catch (error) {
      if (!button.isConnected) return;
      button.disabled = false;
      button.textContent = t("check_crops");
      say(dialog.querySelector(".problem"), sentence(error));
    }
  });
  return button;
}

/** The other pages or scenes of the same file among the results. */
function units(hit) {
  const others = actions.units(hit.key);
  if (others.length < 2) return null;
  const title = t({ page: "others_pages", video: "others_scenes" }[hit.modality] ?? "others_file");
  return el(
    "div",
    {},
    el("h3", {}, title),
    el(
      "ul",
      { class: "others all", "aria-label": title },
      others.map((other) =>
        el("li", {}, el("button", { type: "button", "aria-current": other.key === hit.key && "true", onclick: () => actions.openUnit(other) }, unitName(other))),
      ),
    ),
  );
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("video, audio, input, .prose")) return;
  const button = { ArrowLeft: "before", ArrowRight: "after" }[event.key];
  if (button) {
    const [before, after] = actions.neighbours(shown);
    const hit = button === "before" ? before : after;
    if (hit) openItem(hit);
  } else if (!zoom?.key(event)) return;
  event.preventDefault();
}

function step(sign, label, hit) {
  const properties = { type: "button", class: "icon", "data-step": label, "aria-label": t(label), "aria-describedby": "item-name", disabled: !hit };
  return el("button", { ...properties, onclick: () => openItem(hit) }, sign);
}

function act(key, choose) {
  return el("button", { type: "button", onclick: () => (leave(), choose()) }, t(key));
}

/** Close, because something else follows. */
function leave() {
  leaves = true;
  dialog.close();
}

/** A file is gone for good, so the first press only asks. */
function remover(hit) {
  const button = el("button", { type: "button", class: "remove" }, t("remove"));
  button.addEventListener("click", async () => {
    if (button.dataset.sure === undefined) {
      button.dataset.sure = "";
      button.textContent = t("remove_sure");
      return;
    }
    try {
      await remove(`/api/items/${hit.key}`);
      if (button.isConnected) leave();
      actions.removed();
    } catch (error) {
      if (button.isConnected) say(dialog.querySelector(".problem"), sentence(error));
    }
  });
  return button;
}
