// What is asked: words, a picture or a clip (chosen, dropped, pasted, or of the library), and the filters.

import { byId, el } from "./element.js";
import { keepFile, keptFile, OWN } from "./kept_files.js";
import { t } from "./language.js";

const FILTERS = ["words", "under", "camera", "area", "since", "until", "min_score", "sort"];
const form = byId("search");
const text = byId("text");
const drop = byId("drop");
const attached = byId("attached");
const chooser = byId("attach-file");
const auto = byId("thinks-auto");
let medium = null;
const MAX_SHOWN = 80;
/** Names of videos: of most of these, browsers do not say what they are. */
const FILM = /\.(mp4|m4v|mov|qt|mkv|webm|avi|divx|3g[p2]|f4v|flv|wmv|asf|mts|m2ts?|ts|mod|tod|mp[eg]|mpeg|m[12]v|vob|dv|mxf|og[vm]|rm|rmvb)$/i;
const DIAL_WORDS = { never: "reason_never", auto: "reason_auto", always: "reason_first" };
const DIAL = new Map([["0", "never"], ["never", "never"], ["auto", "auto"], ["always", "always"]]);
let usual = "always";
let told = "";
let ask = () => {};

/** Begin to listen: `asked` is called for a new question, `narrowed` when only filters changed, `down` to go to the results, `refused`
 * with words for a person. */
export function startQuery({ asked, narrowed, down, refused }) {
  ask = asked;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    asked();
  });
  form.addEventListener("change", (event) => {
    countFilters();
    if (event.target.name === "think") told = thinkState() || usual;
    if (event.target !== text && event.target !== chooser) narrowed();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown") return;
    event.preventDefault();
    down();
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

/** Whether there is something to compare items with. */
export function hasQuery() {
  return Boolean(words() || medium);
}

export function hasMedium() {
  return Boolean(medium);
}

/** Whether anything is looked for, be it only exact words. */
export function isAsked() {
  return hasQuery() || Boolean(filters().words);
}

/** The filters that are set, by the names that the server gives them. */
export function filters() {
  const fields = new FormData(form);
  const set = { modality: fields.getAll("modality") };
  for (const name of FILTERS) {
    const value = fields.get(name)?.trim();
    if (value) set[name] = value;
  }
  return set;
}

/** Whether the Reasoner is to be asked: never, always, or auto (where the gate of the server wants it). */
export function thinks() {
  return byId("thinks").hidden ? "never" : form.elements.think.value;
}

/** Offer what the server can do, and set what it does unless told, where neither a person nor the address says. */
export function offerThinking({ think, gate, gated }) {
  byId("thinks").hidden = !think;
  auto.disabled = !gate;
  auto.title = auto.parentElement.title = t(gate ? "reason_auto_hint" : "reason_auto_missing");
  usual = gated ? "auto" : "always";
  setDial();
}

function setDial() {
  const wished = DIAL.get(told) ?? usual;
  form.elements.think.value = wished === "auto" && auto.disabled ? usual : wished;
}

/** What an address asks for and this page cannot do, in words; to be asked when the server has said what it offers. */
export function refusals(state) {
  const kinds = [...form.querySelectorAll("[name=modality]")].map(({ value }) => value);
  const others = [
    ...FILTERS.filter((name) => form.elements[name].value !== state[name]).map((name) => [name, state[name]]),
    ...state.modality.filter((kind) => !kinds.includes(kind)).map((kind) => ["modality", kind]),
  ];
  const isKept = !state.think || thinks() === DIAL.get(state.think);
  return [...(isKept ? [] : [refusedDial(state.think)]), ...others.map(([name, value]) => notTaken(name, value))];
}

function refusedDial(wished) {
  if (!DIAL.has(wished)) return notTaken("think", wished);
  return byId("thinks").hidden ? t("no_reasoner") : t("no_gate", { instead: t(DIAL_WORDS[thinks()]) });
}

/** Say that an address holds what this page does not know. */
export function notTaken(name, value) {
  return t("link_not_taken", { what: `${name}=${value}`.slice(0, MAX_SHOWN) });
}

/** The whole question as a form, as it stands now. */
export function question() {
  const body = new FormData();
  for (const [name, value] of Object.entries(filters())) {
    for (const each of Array.isArray(value) ? value : [value]) body.append(name, each);
  }
  if (words()) body.append("text", words());
  if (medium?.file) body.append("file", medium.file);
  else if (medium) body.append("key", medium.id);
  return body;
}

/** The question as an address holds it. */
export function queryState() {
  return { ...filters(), q: words(), image: medium?.id ?? "", think: thinkState() };
}

function thinkState() {
  const chosen = form.elements.think.value;
  return { never: "0", [usual]: "" }[chosen] ?? chosen;
}

/** Take the question of an address; `find(key)` promises an item of the library, or null. What comes when the address is another one
 * (`isCurrent`) is dropped. Returns what cannot be taken. */
export async function setQuery(state, find, isCurrent) {
  text.value = state.q;
  told = state.think;
  setDial();
  for (const box of form.querySelectorAll("[name=modality]")) box.checked = state.modality.includes(box.value);
  for (const field of FILTERS) form.elements[field].value = state[field];
  countFilters();
  if ((medium?.id ?? "") === state.image) return "";
  forgetMedium();
  if (OWN.test(state.image)) {
    const file = await keptFile(state.image);
    if (!isCurrent()) return "";
    if (!file) return t("query_gone");
    attach({ id: state.image, file });
  } else if (state.image) {
    const item = await find(state.image);
    if (!isCurrent()) return "";
    if (item === null) return t("query_gone");
    attach({ id: state.image, item });
  }
  return "";
}

/** Look for an item of the library. */
export function lookFor(hit) {
  attach({ id: hit.key, item: hit });
  ask();
}

/** The file of the question is an item of the library: call it by its key, which others know, too. */
export function nameMedium(key) {
  if (!medium?.file || medium.id === key) return false;
  medium.id = key;
  return true;
}

export function forgetMedium() {
  if (medium?.source) URL.revokeObjectURL(medium.source);
  medium = null;
  chooser.value = "";
  attached.replaceChildren();
  attached.hidden = true;
}

function isFilm(file) {
  return Boolean(file) && (file.type.startsWith("video/") || FILM.test(file.name));
}

async function take(file, refused) {
  if (!file) return;
  if (!/^image\//.test(file.type) && !isFilm(file)) {
    refused(t(file.type.startsWith("audio/") ? "sound" : "neither"));
    return;
  }
  attach({ id: await keepFile(file), file });
  ask();
}

function attach({ id, file, item }) {
  forgetMedium();
  const source = file ? URL.createObjectURL(file) : null;
  const picture = source ?? item.thumbnail;
  medium = { id, file, source };
  attached.append(
    isFilm(file) ? el("video", { src: source, muted: true, playsinline: true, "aria-hidden": "true", onerror: (event) => event.target.remove() }) : "",
    picture && !isFilm(file) ? el("img", { src: picture, alt: "" }) : "",
    el("bdi", {}, item?.name ?? (file.name || t("pasted"))),
    el("button", { type: "button", class: "icon", "aria-label": t("without_file"), onclick: () => (forgetMedium(), text.focus(), ask()) }, "×"),
  );
  attached.hidden = false;
}

function countFilters() {
  const { modality: _, ...others } = filters();
  const number = Object.keys(others).length;
  byId("num-filters").textContent = number ? ` (${number})` : "";
}
