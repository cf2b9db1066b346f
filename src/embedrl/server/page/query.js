// What is asked: words, a picture or a clip (chosen, dropped or pasted), and the filters.

import { byId, el } from "./element.js";

const form = byId("search");
const text = byId("text");
const drop = byId("drop");
const attached = byId("attached");
const chooser = byId("attach-file");
let file = null;
let ask = () => {};

/** Begin to listen: `asked` is called for a new question, `narrowed` when only filters changed, `refused` with words for a person. */
export function startQuery({ asked, narrowed, refused }) {
  ask = asked;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    asked();
  });
  form.addEventListener("change", (event) => {
    if (event.target !== text && event.target !== chooser) narrowed();
    countFilters();
  });
  byId("clear-filters").addEventListener("click", () => {
    for (const field of byId("filters").querySelectorAll("input, select")) field.value = "";
    countFilters();
    narrowed();
  });
  byId("attach").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => take(chooser.files[0], refused));
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) {
      event.preventDefault();
      take(event.clipboardData.files[0], refused);
    }
  });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      drop.classList.add("dropping");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    drop.classList.remove("dropping");
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    take(event.dataTransfer.files[0], refused);
  });
}

export function words() {
  return text.value.trim();
}

export function setWords(value) {
  text.value = value;
}

/** Whether there is something to compare items with. */
export function hasQuery() {
  return Boolean(words() || file);
}

/** Whether anything is looked for, be it only exact words. */
export function isAsked() {
  return hasQuery() || Boolean(filters().words);
}

/** The filters that are set, by the names that the server gives them. */
export function filters() {
  const fields = new FormData(form);
  const found = { modality: fields.getAll("modality") };
  for (const name of ["words", "under", "since", "until", "min_score", "sort"]) {
    const value = fields.get(name)?.trim();
    if (value) found[name] = value;
  }
  return found;
}

/** Whether the Reasoner is to be asked. */
export function thinks() {
  return !byId("thinks").hidden && form.elements.think.checked;
}

/** The whole question as a form. */
export function question(more) {
  const found = new FormData();
  for (const [name, value] of Object.entries({ ...filters(), ...more })) {
    for (const each of Array.isArray(value) ? value : [value]) found.append(name, each);
  }
  if (words()) found.append("text", words());
  if (file) found.append("file", file);
  return found;
}

export function forgetFile() {
  if (attached.querySelector("[src]")) URL.revokeObjectURL(attached.querySelector("[src]").src);
  file = null;
  chooser.value = "";
  attached.replaceChildren();
  attached.hidden = true;
}

function take(given, refused) {
  if (!given) return;
  if (!/^(image|video)\//.test(given.type)) {
    refused("Search with a picture or a clip: this file is neither.");
    return;
  }
  forgetFile();
  file = given;
  const source = URL.createObjectURL(given);
  attached.append(
    given.type.startsWith("image/") ? el("img", { src: source, alt: "" }) : el("video", { src: source, muted: true, playsinline: true, "aria-hidden": "true" }),
    el("span", {}, given.name || "pasted picture"),
    el("button", { type: "button", class: "icon", "aria-label": "Look without this file", onclick: () => (forgetFile(), text.focus(), ask()) }, "×"),
  );
  attached.hidden = false;
  ask();
}

function countFilters() {
  const { modality: _, ...others } = filters();
  const number = Object.keys(others).length;
  byId("num-filters").textContent = number ? ` (${number})` : "";
}
