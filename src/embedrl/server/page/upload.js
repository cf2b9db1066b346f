// Files that are added: each on its own, with a bar, and what became of it.

import { postWithProgress } from "./api.js";
import { byId, el } from "./element.js";
import { t } from "./language.js";
import { bytes, sentence } from "./wording.js";

const chooser = byId("add-files");
const panel = byId("uploads");
const list = el("ul", {});
const summary = el("p", { role: "status" });
const close = el("button", { type: "button", class: "icon", "aria-label": t("put_away"), onclick: dismiss }, "×");
let maxBytes = Infinity;
let added = () => {};
let queue = Promise.resolve();
let figures = { n: 0, added: 0, waiting: 0 };

/** `onAdded` is called whenever a file was taken in. */
export function startUploads(onAdded) {
  added = onAdded;
  panel.append(el("div", { class: "uploads-head" }, summary, close), list);
  byId("add").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    addFiles([...chooser.files]);
    chooser.value = "";
  });
}

export function limitUploads({ max_upload_bytes }) {
  maxBytes = max_upload_bytes;
}

function addFiles(files) {
  if (!files.length) return;
  if (!figures.waiting) dismiss();
  panel.hidden = false;
  for (const file of files) {
    const line = makeLine(file);
    list.append(line.node);
    figures.n += 1;
    figures.waiting += 1;
    queue = queue.then(() => send(file, line)).finally(() => {
      figures.waiting -= 1;
      count();
    });
  }
  count();
}

async function send(file, line) {
  if (file.size > maxBytes) return line.end("refused", t("upload_refused", { why: t("upload_too_large", { size: bytes(file.size), limit: bytes(maxBytes) }) }));
  const form = new FormData();
  form.append("file", file);
  try {
    const { items } = await postWithProgress("/api/items", form, line.sent);
    const isNew = items.some(({ state }) => state !== "known");
    figures.added += 1;
    line.end(isNew ? "added" : "known", t(isNew ? "upload_added" : "upload_known"));
    added();
  } catch (error) {
    line.end("refused", t("upload_refused", { why: sentence(error, file.name) }));
  }
  return undefined;
}

function makeLine(file) {
  const bar = el("progress", { max: "1", value: "0", "aria-label": file.name });
  const state = el("span", { class: "quiet" }, t("upload_waits"));
  const node = el("li", {}, el("span", { class: "name", title: file.name }, file.name), bar, state);
  return {
    node,
    sent(share) {
      bar.value = share;
      state.textContent = share < 1 ? t("upload_sent", { percent: Math.floor(share * 100) }) : t("upload_checked");
      if (share >= 1) bar.removeAttribute("value");
    },
    end(name, words) {
      bar.value = 1;
      node.className = name;
      state.textContent = words;
    },
  };
}

function count() {
  summary.textContent = t("upload_summary", { n: figures.n, added: figures.added });
  close.disabled = figures.waiting > 0;
}

function dismiss() {
  figures = { n: 0, added: 0, waiting: 0 };
  list.replaceChildren();
  panel.hidden = true;
}
