// What the server holds and does: figures, indexing, files that failed, and whether it answers at all.

import { limitQuestions } from "./answer.js";
import { get, onReachable } from "./api.js";
import { byId, el, say } from "./element.js";
import { keep, kept, t } from "./language.js";
import { limitUploads, startUploads } from "./upload.js";

const BUSY_MS = 2_000;
const IDLE_MS = 10_000;
const GONE_MS = 3_000;
const KINDS = { image: "n_images", video: "n_videos", page: "n_pages", text: "n_texts" };
const BLIND_DISMISSED = "embedrl-blind-dismissed";
let timer = 0;
let told = () => {};
let changed = () => {};
let version = null;
let isGone = false;
let title = "";
let asked = "";

/** Ask for the status again and again; `onStatus(status)` each time, `onChange()` whenever the index changed. */
export async function startLibrary(onStatus, onChange) {
  told = onStatus;
  changed = onChange;
  onReachable(reach);
  startUploads(look);
  byId("blind-dismiss").addEventListener("click", () => {
    keep(BLIND_DISMISSED, "yes");
    byId("blind").hidden = true;
  });
  document.addEventListener("visibilitychange", () => document.hidden || look());
  await look();
}

async function look() {
  clearTimeout(timer);
  let wait = IDLE_MS;
  try {
    const status = await get("/api/status");
    show(status);
    told(status);
    if (version !== null && version !== status.version) changed();
    version = status.version;
    if (status.indexing.state !== "idle" || status.indexing.waiting) wait = BUSY_MS;
  } catch {
    wait = GONE_MS;
  }
  clearTimeout(timer);
  timer = setTimeout(() => (document.hidden ? null : look()), wait);
}

/** Say that the server is gone, in a line of its own, until it answers again. */
function reach(answers) {
  const isBack = isGone && answers;
  isGone = !answers;
  say(byId("gone"), isGone ? t("server_gone") : "");
  if (isBack) changed();
}

/** Name the tab after what is asked; without words, after the library alone. */
export function nameQuestion(question) {
  asked = question;
  nameTab();
}

function nameTab() {
  document.title = [asked, title, "embedrl"].filter(Boolean).join(" – ");
}

function show(status) {
  title = status.title;
  nameTab();
  byId("title").textContent = status.title;
  const held = Object.entries(KINDS).filter(([kind]) => status.modalities[kind]);
  byId("holds").textContent = held.map(([kind, key]) => t(key, { n: status.modalities[kind] })).join(t("comma")) || t("nothing_yet");
  byId("add").hidden = !status.uploads;
  byId("blind").hidden = !status.blind || kept(BLIND_DISMISSED) !== null;
  limitUploads(status.limits);
  limitQuestions(status.limits);
  showIndexing(status.indexing);
  showFailures(status.failures);
}

function showIndexing({ state, done, total, waiting, watching }) {
  const busy = state !== "idle";
  byId("indexing").hidden = !busy;
  byId("indexing").title = watching ? t("watched") : "";
  if (!busy) return say(byId("progress-words"), "");
  const bar = byId("progress");
  if (total) [bar.max, bar.value] = [total, done];
  else bar.removeAttribute("value");
  const parts = [t(state), total ? t("done_of", { done, total }) : "", waiting ? t("n_waiting", { n: waiting }) : ""];
  return say(byId("progress-words"), parts.filter(Boolean).join(t("comma")));
}

function showFailures({ count: number, first }) {
  const list = byId("failures");
  list.hidden = !number;
  if (!number) return;
  const line = ({ path, page, reason }) => el("li", {}, el("b", {}, page ? t("failed_page", { path, page }) : path), ` ${reason}`);
  list.replaceChildren(
    el("summary", {}, t("failures", { n: number })),
    el("ul", {}, first.map(line)),
    number > first.length ? el("p", {}, t("and_others", { n: number - first.length })) : "",
  );
}
