// The page: from a question, or a taste, or nothing, to results on the screen.

import { Refusal, get, onLocked, postForm, postJson, streamForm } from "./api.js";
import { byId, el, say } from "./element.js";
import { focusCard, neighbours, showHits, startGrid, tellHits } from "./grid.js";
import { openItem, startItem, thoughts } from "./item.js";
import { startLibrary } from "./library.js";
import { askForToken } from "./login.js";
import { filters, forgetFile, hasQuery, isAsked, question, setWords, startQuery, thinks, words } from "./query.js";
import { choose, forgetTaste, isChosen, signOf, startTaste, wanted } from "./taste.js";
import { count, took } from "./wording.js";

const LIMIT = 24;
const NAMES = { before: "Before RL", after: "After RL" };
const summary = byId("summary");
const problem = byId("problem");
let reasoner = null;
let ready = null;
let running = new AbortController();
let shown = { hits: [], scored: false, changes: new Map() };

/** Show what the page is set to: a recommendation, a search, or what is there. With `against`, ranks are compared with those. */
async function refresh({ offset = 0, against = null } = {}) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  say(problem, "");
  await ready;
  if (signal.aborted) return;
  byId("stale").hidden = true;
  if (!offset) byId("read").hidden = true;
  byId("results").setAttribute("aria-busy", "true");
  try {
    if (isChosen()) await recommend(offset, signal);
    else if (!isAsked()) await browse(offset);
    else if (offset || against) await search(offset, signal, against);
    else await stream(signal);
  } catch (error) {
    if (signal.aborted) return;
    summary.textContent = "";
    const later = error instanceof Refusal && error.status === 429 ? ` Try again in ${error.retryAfter ?? 1} s.` : "";
    say(problem, `${sentence(error.message)}${later}`);
  }
  if (!signal.aborted) byId("results").setAttribute("aria-busy", "false");
}

/** The plain result at once, then the reasoned one with the ranks that changed. */
async function stream(signal) {
  const think = thinks() && hasQuery();
  summary.textContent = "Searching …";
  for await (const [name, answer] of streamForm("/api/search/stream", question(asks({ think })), signal)) {
    if (name === "error") throw new Refusal(0, answer.error);
    if (name === "plain") {
      show(answer);
      summary.textContent = think ? `${found(answer)}, without reasoning, in ${took(answer.seconds.total)}. Reasoning …` : told(answer);
    }
    if (name === "reasoned") {
      show(answer, { changes: answer.changes });
      summary.textContent = `${told(answer)}. ${moves(answer.changes)}`;
    }
  }
}

async function search(offset, signal, against) {
  const answer = await postForm("/api/search", question(asks({ think: thinks() && hasQuery(), offset })), signal);
  const changes = against && compare(against, answer.hits);
  show(answer, { append: offset > 0, changes: changes ?? [] });
  summary.textContent = changes ? `${told(answer)}. ${moves(changes)}` : told(answer);
}

async function recommend(offset, signal) {
  const examples = wanted();
  if (!examples) {
    summary.textContent = "Choose something to be like, too.";
    return;
  }
  const { modality, sort: _, min_score, ...others } = filters();
  const narrowed = { ...others, modality: modality.length ? modality : null, min_score: min_score ? Number(min_score) : null };
  const more = { offset, limit: LIMIT, think: thinks(), reasoner };
  const answer = await postJson("/api/similar", { ...examples, ...narrowed, ...more }, signal);
  show(answer, { append: offset > 0 });
  summary.textContent = `${found(answer)}, most alike first`;
}

async function browse(offset) {
  const { modality, min_score: _, sort, ...others } = filters();
  const parameters = new URLSearchParams({ ...others, ...(sort ? { sort } : {}), ...(reasoner ? { reasoner } : {}), offset, limit: LIMIT });
  for (const each of modality) parameters.append("modality", each);
  const { items, total, more } = await get("/api/items", parameters);
  show({ hits: items, offset, more }, { append: offset > 0, scored: false });
  const order = { oldest: "oldest first", name: "by name" }[sort] ?? "newest first";
  const nothing = modality.length || Object.keys(others).length ? "Nothing passes the filters." : "Nothing is here yet.";
  summary.textContent = total ? `${count(total, "item")}, ${order}` : nothing;
}

function asks({ think, offset = 0 }) {
  return { think: String(think), offset: String(offset), limit: String(LIMIT), ...(reasoner ? { reasoner } : {}) };
}

function show(answer, { append = false, scored = true, changes = [] } = {}) {
  const hits = append ? [...shown.hits, ...answer.hits] : answer.hits;
  shown = { hits, scored: scored && (isChosen() || hasQuery()), changes: new Map(changes.map((change) => [change.key, change])) };
  showHits(hits, tells);
  byId("more").hidden = !answer.more;
  if (answer.query?.tcot || answer.query?.failure) showReading(answer.query);
}

function tells(hit, at) {
  return { place: shown.scored ? at + 1 : null, scored: shown.scored, change: shown.changes.get(hit.key), taste: signOf(hit.key) };
}

function showReading({ tcot, failure, evidence }) {
  const read = byId("read");
  read.hidden = false;
  const [, ...parts] = tcot ? thoughts(tcot, evidence?.keywords).children : [null];
  const title = tcot ? `Read as: ${tcot.answer.trim()}` : `The Reasoner wrote no T-CoT (${failure}); the question was taken as it is.`;
  read.replaceChildren(el("summary", {}, title), ...parts);
}

function compare(before, hits) {
  const was = new Map(before.map((hit, at) => [hit.key, at + 1]));
  const now = new Map(hits.map((hit, at) => [hit.key, at + 1]));
  const keys = [...new Set([...now.keys(), ...was.keys()])];
  return keys.map((key) => ({ key, before: was.get(key) ?? null, now: now.get(key) ?? null })).filter((change) => change.before !== change.now);
}

function found(answer) {
  return answer.hits.length ? count(answer.hits.length, "result") + (answer.more ? " and more" : "") : "Nothing found";
}

function told(answer) {
  return `${found(answer)}${answer.think ? ", with reasoning," : ""} in ${took(answer.seconds.total)}`;
}

function moves(changes) {
  const number = (keep) => changes.filter(keep).length;
  const moved = number((change) => change.before && change.now);
  const came = number((change) => !change.before);
  const parts = [moved && `${moved} moved`, came && `${came} came in`].filter(Boolean);
  return parts.length ? `${parts.join(", ")}.` : "No rank changed.";
}

function sentence(text) {
  const words = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(words) ? words : `${words}.`;
}

function ask({ keep = false } = {}) {
  forgetTaste();
  if (!keep) history.pushState(null, "", words() ? `?${new URLSearchParams({ q: words() })}` : location.pathname);
  refresh();
}

function taste(hit, sign) {
  choose(hit, sign);
  byId("taste").scrollIntoView({ block: "nearest" });
}

/** Two Reasoners can be compared: a switch, which tells how ranks change from one to the other. */
function showReasoners(served) {
  const field = byId("reasoners");
  if (served.length < 2 || field.childElementCount > 1) return;
  reasoner = served.at(-1).id;
  field.hidden = false;
  for (const { id, name } of served) {
    const choice = el("input", { type: "radio", name: "reasoner", value: id, checked: id === reasoner });
    choice.addEventListener("change", () => {
      reasoner = id;
      refresh({ against: isAsked() && !isChosen() ? shown.hits : null });
    });
    field.append(el("label", { title: name }, choice, el("span", {}, NAMES[id] ?? name)));
  }
}

function start() {
  onLocked(askForToken);
  startGrid({ open: openItem, like: (hit) => taste(hit, 1), dislike: (hit) => taste(hit, -1) });
  startItem({
    neighbours,
    like: (hit) => taste(hit, 1),
    dislike: (hit) => taste(hit, -1),
    closed: focusCard,
    removed: () => refresh(),
    reasoner: () => reasoner,
  });
  startTaste(() => {
    tellHits(tells);
    refresh();
  });
  startQuery({ asked: ask, narrowed: () => refresh(), refused: (why) => say(problem, why) });
  byId("more").addEventListener("click", () => refresh({ offset: shown.hits.length }));
  byId("stale").addEventListener("click", () => refresh());
  addEventListener("popstate", readAddress);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, select, textarea, dialog")) {
      event.preventDefault();
      byId("text").focus();
    }
  });
  ready = startLibrary(
    (status) => {
      byId("thinks").hidden = !status.think;
      showReasoners(status.reasoners);
    },
    () => {
      if (isAsked() || isChosen() || shown.hits.length > LIMIT) byId("stale").hidden = false;
      else refresh();
    },
  );
  readAddress();
}

function readAddress() {
  setWords(new URLSearchParams(location.search).get("q") ?? "");
  forgetFile();
  ask({ keep: true });
}

start();
