// One item, large: its picture with boxes, its clip at the right moment, its page or text, and all of its evidence.

import { get, remove } from "./api.js";
import { byId, el, say } from "./element.js";
import { evidenceOf, listed, marked, pictureWithBoxes } from "./evidence.js";
import { day, kindOf } from "./wording.js";

const dialog = byId("item");
let shown = null;
let actions = {};

/** `given`: neighbours(key), like(hit), dislike(hit), closed(key), removed(), reasoner(). */
export function startItem(given) {
  actions = given;
  dialog.addEventListener("close", () => {
    const key = shown;
    shown = null;
    dialog.replaceChildren();
    actions.closed(key);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

/** Open an item; a clip plays from `time_s` on. */
export async function openItem(hit, time_s = null) {
  shown = hit.key;
  draw(hit, time_s);
  if (!dialog.open) dialog.showModal();
  if (hit.thumbnail && hit.modality !== "page") return;
  try {
    const reasoner = actions.reasoner();
    const whole = await get(`/api/items/${hit.key}`, reasoner ? { reasoner } : undefined);
    if (shown === hit.key && whole.text) showText(whole);
  } catch (error) {
    if (shown === hit.key) say(dialog.querySelector(".problem"), error.message);
  }
}

function draw(hit, time_s) {
  const evidence = evidenceOf(hit);
  const [before, after] = actions.neighbours(hit.key);
  const media = el("div", { class: "media" });
  const jump = show(media, hit, evidence, time_s);
  dialog.replaceChildren(
    el(
      "header",
      {},
      el("div", {}, el("h2", { id: "item-name" }, hit.name), el("p", { class: "quiet" }, [kindOf(hit), hit.path, day(hit.modified_s)].join(" · "))),
      step("‹", "Previous result", before),
      step("›", "Next result", after),
      el("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close() }, "×"),
    ),
    media,
    el(
      "div",
      { class: "why" },
      el("p", { class: "problem", role: "alert", hidden: true }),
      hit.reason ? el("p", { class: "reason" }, hit.reason) : null,
      hit.tcot ? el("p", { class: "answer" }, marked(hit.tcot.answer, evidence.keywords)) : null,
      hit.tcot_failure ? el("p", { class: "quiet" }, `There is no T-CoT (${hit.tcot_failure}); it was found by its plain vector.`) : null,
      listed(evidence, jump),
      hit.tcot ? thoughts(hit.tcot, evidence.keywords) : null,
      el(
        "p",
        { class: "tastes" },
        act("More like this", () => actions.like(hit)),
        act("Less like this", () => actions.dislike(hit)),
        el("a", { href: hit.media, target: "_blank", rel: "noopener" }, "Open the file"),
        hit.uploaded ? remover(hit) : null,
      ),
    ),
  );
}

/** Put the medium there, and return what jumps to a time in it. */
function show(media, hit, evidence, time_s) {
  if (hit.modality === "video") {
    const player = el("video", { controls: true, playsinline: true, preload: "auto", poster: hit.picture, "aria-label": hit.name });
    const jump = (time) => {
      player.currentTime = time;
      player.focus();
    };
    player.addEventListener("error", () => say(dialog.querySelector(".problem"), "This browser cannot play the clip; its key frames are beside it."));
    player.src = time_s === null ? hit.media : `${hit.media}#t=${time_s}`;
    media.append(player);
    return jump;
  }
  if (hit.picture) media.append(pictureWithBoxes(`${hit.picture}?max_side=1280`, hit.tcot?.answer || hit.name, evidence.boxes));
  return () => {};
}

function showText(whole) {
  const text = el("div", { class: "prose", tabindex: "0", role: "region", "aria-label": "Text" }, marked(whole.text, whole.evidence?.keywords));
  const media = dialog.querySelector(".media");
  if (whole.picture) media.append(el("details", {}, el("summary", {}, "Text of the page"), text));
  else media.replaceChildren(text);
}

function thoughts(tcot, keywords) {
  const part = (title, words) => (words.trim() ? [el("h4", {}, title), el("p", {}, marked(words.trim(), keywords))] : []);
  return el("details", { class: "thoughts" }, el("summary", {}, "How it was read"), part("Thinking", tcot.thinking), part("Rethink", tcot.rethink));
}

function step(sign, label, hit) {
  return el("button", { type: "button", class: "icon", "aria-label": label, disabled: !hit, onclick: () => openItem(hit) }, sign);
}

function act(label, choose) {
  return el("button", { type: "button", onclick: () => (dialog.close(), choose()) }, label);
}

/** A file is gone for good, so the first press only asks. */
function remover(hit) {
  const button = el("button", { type: "button", class: "remove" }, "Remove");
  button.addEventListener("click", async () => {
    if (button.dataset.sure === undefined) {
      button.dataset.sure = "";
      button.textContent = "Remove for good?";
      return;
    }
    try {
      await remove(`/api/items/${hit.key}`);
      dialog.close();
      actions.removed();
    } catch (error) {
      say(dialog.querySelector(".problem"), error.message);
    }
  });
  return button;
}

export { thoughts };
