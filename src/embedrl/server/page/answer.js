// An answer above the results of a question, with sources that open where they point: at a second, a page, a line.

import { postJson } from "./api.js";
import { byId, el } from "./element.js";
import { t } from "./language.js";
import { filters, hasMedium, words } from "./query.js";
import { clock } from "./wording.js";

const ASKS = /[?？؟]\s*$|^¿|^(what|when|where|which|who|whose|why|how)\b|什么|哪|谁|几|多少|怎|吗/iu;
const box = byId("answer");
let open = () => {};
let maxChars = Infinity; // until the server says

/** `opened(key, time_s)` is called with the source that a person wants to see. */
export function startAnswer(opened) {
  open = opened;
}

/** Limits of the server's status; what is longer is no question. */
export function limitQuestions({ max_question_chars }) {
  maxChars = max_question_chars;
}

export function hideAnswer() {
  box.hidden = true;
  box.replaceChildren();
}

/** The question that the words put, with its filters, as it stands now; null if they name what to look for rather than ask. */
export function questionPut() {
  if (!ASKS.test(words()) || words().length > maxChars || hasMedium()) return null;
  const { sort: _, min_score: _score, modality, ...narrowed } = filters();
  return { question: words(), ...narrowed, modality: modality.length ? modality : null };
}

/** Ask, and show the answer. What goes wrong is thrown. */
export async function answerQuestion(put, { think, reasoner, signal }) {
  show(el("p", { class: "quiet", role: "status" }, t("answering")));
  const answer = await postJson("/v1/ask", { ...put, think, reasoner }, signal);
  if (signal.aborted) return;
  if (!answer.answered) show(el("p", { class: "quiet" }, t("no_answer")));
  else show(el("p", { class: "answer-text", dir: "auto" }, answer.text), el("ol", { class: "sources" }, answer.citations.map((cited, at) => source(cited, at, answer.text))));
}

function show(...nodes) {
  box.hidden = false;
  box.replaceChildren(el("h2", { id: "answer-title" }, t("answer")), ...nodes);
}

function source(cited, at, text) {
  const name = cited.path.split("/").at(-1);
  const [time_s = null] = cited.times_s;
  const place = time_s !== null ? clock(time_s) : cited.page ? t("other_page", { page: cited.page }) : cited.line ? t("other_line", { line: cited.line }) : "";
  const label = t("cited", { n: at + 1, name, place: place || t(cited.modality) });
  const says = cited.answer === text ? null : el("span", { dir: "auto" }, cited.answer); // the answer says it already
  return el("li", {}, el("button", { type: "button", title: label, onclick: () => open(cited.key, time_s) }, [name, place].filter(Boolean).join(t("comma"))), says);
}
