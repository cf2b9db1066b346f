// What the server holds and does: figures, indexing, files that failed, files to be added.

import { get, postForm } from "./api.js";
import { byId, el, say } from "./element.js";
import { count, megabytes } from "./wording.js";

const BUSY_MS = 2_000;
const IDLE_MS = 10_000;
const STATES = { scanning: "Looking for new files", embedding: "Making new files searchable", reasoning: "Reasoning about new files" };
const chooser = byId("add-files");
let limits = null;
let timer = 0;
let told = () => {};
let changed = () => {};
let version = null;

/** Ask for the status again and again; `onStatus(status)` each time, `onChange()` whenever the index changed. */
export async function startLibrary(onStatus, onChange) {
  told = onStatus;
  changed = onChange;
  byId("add").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => add([...chooser.files]));
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
  } catch (error) {
    byId("holds").textContent = error.message;
  }
  timer = setTimeout(() => (document.hidden ? null : look()), wait);
}

function show(status) {
  document.title = `${status.title} – embedrl`;
  byId("title").textContent = status.title;
  const kinds = { image: "image", video: "video", page: "page", text: "text" };
  const held = Object.entries(kinds).filter(([kind]) => status.modalities[kind]);
  byId("holds").textContent = held.map(([kind, word]) => count(status.modalities[kind], word)).join(", ") || "nothing yet";
  byId("add").hidden = !status.uploads;
  limits = status.limits;
  showIndexing(status.indexing);
  showFailures(status.failures);
}

function showIndexing({ state, done, total, waiting, watching }) {
  const busy = state !== "idle";
  byId("indexing").hidden = !busy;
  byId("indexing").title = watching ? "The folder is being watched" : "";
  if (!busy) return say(byId("progress-words"), "");
  const bar = byId("progress");
  if (total) [bar.max, bar.value] = [total, done];
  else bar.removeAttribute("value");
  const parts = [STATES[state] ?? state, total ? `${done} of ${total}` : "", waiting ? `${waiting} waiting` : ""];
  return say(byId("progress-words"), parts.filter(Boolean).join(", "));
}

function showFailures({ count: number, first }) {
  const list = byId("failures");
  list.hidden = !number;
  if (!number) return;
  const line = ({ path, page, reason }) => el("li", {}, el("b", {}, page ? `${path}, page ${page}` : path), ` ${reason}`);
  list.replaceChildren(
    el("summary", {}, `${count(number, "file")} could not be indexed`),
    el("ul", {}, first.map(line)),
    number > first.length ? el("p", {}, `and ${number - first.length} more`) : "",
  );
}

async function add(files) {
  chooser.value = "";
  if (!files.length) return;
  const [problem, button] = [byId("problem"), byId("add")];
  say(problem, "");
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  if (limits && bytes > limits.max_upload_bytes) return say(problem, `That is more than ${megabytes(limits.max_upload_bytes)} at once: add fewer files.`);
  const form = new FormData();
  for (const file of files) form.append("file", file);
  button.disabled = true;
  button.textContent = `Adding ${count(files.length, "file")} …`;
  try {
    const { items, refused } = await postForm("/api/items", form);
    if (refused.length) say(problem, refused.map(({ name, reason }) => `${name}: ${reason}`).join("; "));
    const known = items.filter((item) => item.state === "known").length;
    byId("summary").textContent = `${count(items.length - known, "file")} added${known ? `, ${known} known already` : ""}.`;
    await look();
  } catch (error) {
    say(problem, error.message);
  } finally {
    button.disabled = false;
    button.textContent = "Add files";
  }
}
