// The page: from its address to a question, or a taste, or nothing, and from there to results on the screen.

import { addressOf, readAddress } from "./address.js";
import { answerQuestion, hideAnswer, questionPut, startAnswer } from "./answer.js";
import { BrokenOff, Gone, get, onLocked } from "./api.js";
import { byId, el, say } from "./element.js";
import { gather, placeOf } from "./gather.js";
import { focusCard, focusFirst, scrollToEntry, showEntries, startGrid, tellEntries, topEntry } from "./grid.js";
import { closeItem, getItem, openItem, openedItem, startItem, thoughts } from "./item.js";
import { chooseLanguage, language, languages, t, translate } from "./language.js";
import { nameQuestion, startLibrary } from "./library.js";
import { PAGE, browse, recommend, search, stream } from "./loading.js";
import { askForToken } from "./login.js";
import { filters, hasQuery, isAsked, lookFor, nameMedium, notTaken, offerThinking, queryState, question, refusals, setQuery, startQuery, thinks, words } from "./query.js";
import { STRINGS } from "./strings.js";
import { choose, forgetTaste, isChosen, likedNames, readTaste, setTaste, signOf, startTaste, tasteState, wanted } from "./taste.js";
import { failureWords, reasonOf, sentence, took } from "./wording.js";

const MAX_RANK = 1_000;
const summary = byId("summary");
const problem = byId("problem");
let reasoner = null;
let firstReasoner = null;
let served = [];
let ready = null;
let applying = 0;
let running = new AbortController();
let failed = false;
let leaving = null; // while the browser goes back from a closed item: what the address is to hold beside the state of the page
const NOTHING = { hits: [], entries: [], scored: false, changes: new Map(), plain: new Map(), question: "", next: null, more: false, address: null };
let shown = NOTHING;

/** Show what the page is set to: a recommendation, a search, or what is there. With `against`, ranks are compared with those. What
 * comes for an earlier question is dropped, and what is set or typed meanwhile is another question's. `at`: the entry to scroll to. */
async function refresh({ against = null, at = 0 } = {}) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const address = addressOf(leaving ? state() : readAddress(), { opened: false });
  say(problem, "");
  await ready;
  if (signal.aborted) return;
  nameQuestion(isChosen() ? "" : words());
  byId("stale").hidden = true;
  byId("read").hidden = true;
  byId("end").hidden = true;
  hideAnswer();
  byId("results").setAttribute("aria-busy", "true");
  const compared = isChosen() || hasQuery();
  const how = { reasoner, signal, think: compared ? thinks() : "never", form: question(), words: words(), compared };
  const put = isChosen() ? null : questionPut();
  try {
    await ask(how, against);
    failed = false;
    shown.address = address;
    while (at >= shown.entries.length && shown.more && (await loadMore(signal)));
    if (at && !signal.aborted) scrollToEntry(at);
  } catch (error) {
    if (signal.aborted) return;
    complain(error, { keeps: error.keeps });
    byId("results").setAttribute("aria-busy", "false");
    return;
  }
  if (signal.aborted) return;
  byId("results").setAttribute("aria-busy", "false");
  if (put && !failed) answerQuestion(put, how).catch((error) => signal.aborted || (hideAnswer(), complain(error, { keeps: true })));
}

async function ask(how, against) {
  if (isChosen()) {
    if (!wanted()) {
      summary.textContent = t("choose_liked");
      return;
    }
    const more = recommend(how);
    const answer = await more(0);
    show(answer, { more, scored: how.compared, question: how.words });
    summary.textContent = t("found_alike", { found: found() });
  } else if (!isAsked()) {
    const more = browse(how);
    const answer = await more(0);
    show(answer, { more });
    summary.textContent = listed(answer.total);
  } else if (against) {
    const more = search(how);
    const answer = await more(0);
    const changes = compare(against, answer.hits);
    show(answer, { more, scored: how.compared, changes, question: how.words });
    summary.textContent = told(answer) + t("stop") + moves(changes);
  } else await follow(how);
}

async function follow(how) {
  summary.textContent = t("searching");
  let first = null;
  try {
    for await (const [name, answer] of stream(how)) {
      first ??= answer;
      tellStep(how, name, answer, first.hits);
    }
  } catch (error) {
    if (first && !how.signal.aborted) summary.textContent = told(first);
    error.keeps = first !== null; // what was found without reasoning is an answer to this question
    throw error;
  }
}

/** Show a step of a search: what is found without reasoning, or with it. */
function tellStep(how, name, answer, plain) {
  const ranks = name === "reasoned" && answer.think ? { plain } : {};
  const more = search({ ...how, think: answer.think ? "always" : "never" });
  show({ ...answer, ...ranks }, { more, scored: how.compared, changes: answer.changes ?? [], question: how.words });
  if (name === "reasoned") summary.textContent = answer.gate === "plain" ? told(answer) : told(answer) + t("stop") + moves(answer.changes);
  else summary.textContent = how.think !== "never" ? t("found_plain", { found: found(), took: took(answer.seconds.total) }) : told(answer);
  if (answer.query.key && nameMedium(answer.query.key)) remember({ replace: true });
}

/** Load what follows. Returns whether something came. */
async function loadMore(signal) {
  if (!shown.more || shown.loading) return false;
  const now = shown;
  now.loading = true;
  try {
    const answer = await now.next(now.hits.length);
    if (signal.aborted || now !== shown) return false;
    now.loading = false;
    const ranks = answer.plain ? { plain: [...now.plain.keys(), ...answer.plain.map(({ path }) => path)].map((path) => ({ path })) } : {};
    show({ ...answer, hits: [...now.hits, ...answer.hits], ...ranks }, { ...now, more: now.next, changes: now.changes.values() });
    return answer.hits.length > 0;
  } catch (error) {
    now.loading = false;
    if (!signal.aborted && now === shown) {
      now.more = false;
      complain(error, { keeps: true });
    }
    return false;
  }
}

function show(answer, { more, scored = false, changes = [], question = "" }) {
  const entries = gather(answer.hits);
  const byKey = new Map([...changes].map((change) => [change.key, change]));
  const plain = new Map((answer.plain ?? []).map(({ path }, at) => [path, at + 1]));
  const { address } = shown;
  shown = { hits: answer.hits, entries, scored, changes: byKey, plain, question, next: more, more: answer.more, address };
  showEntries(entries, tells);
  const isEnd = scored && !answer.more && answer.hits.length >= MAX_RANK;
  say(byId("end"), isEnd ? t("ranks_end", { n: MAX_RANK }) : "");
  if (answer.query?.tcot || answer.query?.failure) showReading(answer.query);
}

function tells({ hit, at }) {
  return {
    place: shown.scored ? at + 1 : null,
    scored: shown.scored,
    change: shown.changes.get(hit.key),
    taste: signOf(hit.key),
    why: reasonOf(hit, likedNames()),
    ranks: hit.without_reasoning ? t("unreasoned") : rankWords(hit, "ranks", "ranks_beyond"),
  };
}

/** The rank with reasoning and the one without, side by side. */
function rankWords(hit, both, beyond) {
  const at = shown.hits.indexOf(hit);
  if (!shown.plain.size || at < 0) return "";
  const plain = shown.plain.get(hit.path);
  return plain ? t(both, { plain, reasoned: at + 1 }) : t(beyond, { n: shown.plain.size, reasoned: at + 1 });
}

/** Say what went wrong. Results that belong to no question any more go; those of a server that is away stay. */
function complain(error, { keeps = false } = {}) {
  if (error instanceof BrokenOff) failed = true; // asked anew once the server is back
  if (error instanceof Gone) {
    failed = true; // the line about the server says so until it is back
    summary.textContent = "";
    return;
  }
  if (!keeps) {
    summary.textContent = "";
    show({ hits: [], more: false }, {});
  }
  say(problem, sentence(error));
}

function showReading({ tcot, failure, evidence }) {
  const read = byId("read");
  read.hidden = false;
  const [, ...parts] = tcot ? thoughts(tcot, evidence?.keywords, "h2").children : [null];
  const title = tcot ? t("read_as", { answer: tcot.answer.trim() }) : t("read_not", { why: failureWords(failure) });
  read.replaceChildren(el("summary", { dir: "auto" }, title), ...parts);
}

function compare(before, hits) {
  const was = new Map(before.map((hit, at) => [hit.key, at + 1]));
  const now = new Map(hits.map((hit, at) => [hit.key, at + 1]));
  const keys = [...new Set([...now.keys(), ...was.keys()])];
  return keys.map((key) => ({ key, before: was.get(key) ?? null, now: now.get(key) ?? null })).filter((change) => change.before !== change.now);
}

function found() {
  const { hits, more } = shown;
  if (!hits.length) return t("nothing_found");
  const results = t("n_results", { n: hits.length });
  return more ? t("and_more", { found: results }) : results;
}

function told(answer) {
  return t(answer.gate === "plain" ? "found_gated" : answer.think ? "found_reasoned" : "found", { found: found(), took: took(answer.seconds.total) });
}

function listed(total) {
  const { modality, min_score: _, sort, ...others } = filters();
  const isNarrowed = modality.length || Object.keys(others).length;
  if (!total) return t(isNarrowed ? "nothing_passes" : "nothing_here");
  const order = sort ? `order_${sort}` : isNarrowed ? "order_newest" : "order_first_screen";
  return t("listed", { items: t("n_items", { n: total }), order: t(order) });
}

function moves(changes) {
  const number = (keep) => changes.filter(keep).length;
  const moved = number((change) => change.before && change.now);
  const came = number((change) => !change.before);
  const parts = [moved && t("n_moved", { n: moved }), came && t("n_came", { n: came })].filter(Boolean);
  return parts.length ? parts.join(t("comma")) + t("stop").trim() : t("none_moved");
}

// ---- the address

function state() {
  const { item, t: time } = readAddress();
  return { ...queryState(), ...tasteState(), reasoner: reasoner === firstReasoner ? "" : reasoner, item, t: time };
}

/** Put what is set into the address, as a step that can be taken back. */
function remember({ replace = false, ...others } = {}) {
  if (leaving) {
    leaving = { ...leaving, ...others };
    return;
  }
  const address = addressOf({ ...state(), ...others });
  if (address === location.search || (!location.search && address === location.pathname)) return;
  history[replace ? "replaceState" : "pushState"]({ ...(replace ? history.state : {}), opened: Boolean(others.item) }, "", address);
}

/** Go back from a closed item. `history.back()` takes its time, so what is chosen until then waits for it. */
function leaveItem() {
  leaving = {};
  history.back();
}

/** The browser went back or forth: by itself, so the page follows; or from a closed item, so the address does. */
function onHistory() {
  const waiting = leaving;
  leaving = null;
  if (waiting) remember(waiting);
  else applyAddress();
}

/** Set the page to its address: at the start, and when the browser goes back or forth. */
async function applyAddress() {
  const mine = ++applying;
  const isCurrent = () => mine === applying;
  const [wished, at] = [readAddress(), history.state?.at ?? 0];
  const missing = [];
  try {
    missing.push(await setQuery(wished, itemOf, isCurrent));
    if (!isCurrent()) return;
    const likes = await readTaste(wished, async (key) => {
      const item = await itemOf(key);
      if (item === null) missing.push(t("item_gone"));
      return item;
    });
    if (!isCurrent()) return;
    setTaste(likes);
  } catch (error) {
    if (isCurrent()) complain(error, { keeps: true });
    return;
  }
  await ready;
  if (!isCurrent()) return;
  missing.push(...refusals(wished), setReasoner(wished.reasoner));
  if (addressOf(wished, { opened: false }) !== shown.address) await refresh({ at });
  if (!isCurrent()) return;
  const why = [...new Set(missing.filter(Boolean))].join(" ");
  if (why) say(problem, why);
  if (!wished.item) closeItem();
  else if (wished.item !== openedItem()) await openByKey(wished.item, wished.t === "" ? null : Number(wished.t));
}

async function openByKey(key, time_s) {
  const mine = applying;
  try {
    const hit = shown.hits.find((each) => each.key === key) ?? (await getItem(key));
    if (mine === applying) await openItem(hit, Number.isFinite(time_s) ? time_s : null);
  } catch (error) {
    if (mine !== applying) return;
    remember({ replace: true, item: "", t: "" });
    say(problem, error.status === 404 ? t("item_gone") : sentence(error));
  }
}

/** An item by its key; null if it is not there. */
async function itemOf(key) {
  try {
    return await get(`/api/items/${key}`);
  } catch (error) {
    if (error.status !== 404) throw error;
    return null;
  }
}

function changed({ keepsTaste = false, against = null } = {}) {
  applying += 1;
  if (!keepsTaste) forgetTaste();
  remember({ item: "", t: "" });
  refresh({ against });
}

// ---- what a person does

function taste(hit, sign) {
  choose(hit, sign);
  byId("taste").scrollIntoView({ block: "nearest" });
}

/** Two Reasoners can be compared: a switch, which tells how ranks change from one to the other. */
function showReasoners(reasoners) {
  served = reasoners.map(({ id }) => id);
  const field = byId("reasoners");
  if (served.length < 2 || field.childElementCount > 1) return;
  reasoner = firstReasoner = served.at(-1);
  field.hidden = false;
  for (const { id, name } of reasoners) {
    const choice = el("input", { type: "radio", name: "reasoner", value: id, checked: id === reasoner });
    choice.addEventListener("change", () => {
      reasoner = id;
      changed({ keepsTaste: true, against: isAsked() && !isChosen() ? shown.hits : null });
    });
    field.append(el("label", { title: name }, choice, el("span", {}, id in STRINGS.en ? t(id) : name)));
  }
}

/** Take the Reasoner of an address, or the first. Returns what cannot be taken. */
function setReasoner(id) {
  const choices = [...byId("reasoners").querySelectorAll("input")];
  const choice = choices.find(({ value }) => value === id) ?? choices.find(({ value }) => value === firstReasoner);
  if (choice) {
    choice.checked = true;
    reasoner = choice.value;
  }
  return id && !served.includes(id) ? notTaken("reasoner", id) : "";
}

/** A button that goes on in the next language, called by its own name. */
function showLanguages() {
  const next = languages[(languages.indexOf(language) + 1) % languages.length];
  const button = byId("language");
  button.textContent = STRINGS[next].language;
  button.lang = next;
  button.addEventListener("click", () => chooseLanguage(next));
}

function neighbours(key) {
  const at = placeOf(shown.entries, key);
  return at < 0 ? [null, null] : [shown.entries[at - 1]?.hit ?? null, shown.entries[at + 1]?.hit ?? null];
}

function units(key) {
  const entry = shown.entries[placeOf(shown.entries, key)];
  if (!entry) return [];
  const place = ({ page, start_s, unit }) => page ?? start_s ?? unit ?? 0;
  return [entry.hit, ...entry.others].sort((one, other) => place(one) - place(other));
}

function start() {
  history.scrollRestoration = "manual";
  translate(document);
  showLanguages();
  onLocked(askForToken);
  startGrid({
    open: openItem,
    openUnit: (unit) => openByKey(unit.key, unit.start_s || null),
    like: (hit) => taste(hit, 1),
    dislike: (hit) => taste(hit, -1),
    near: (last) => last >= shown.entries.length && loadMore(running.signal),
  });
  startItem({
    neighbours,
    units,
    openUnit: (unit) => openByKey(unit.key, unit.start_s || null),
    why: (hit) => ({ reason: reasonOf(hit, likedNames()), question: shown.scored ? shown.question : "", ranks: rankWords(hit, "rank_both", "rank_beyond") }),
    like: (hit) => taste(hit, 1),
    dislike: (hit) => taste(hit, -1),
    ask: lookFor,
    opened: (key, time_s, isFirst) => (leaving || readAddress().item !== key) && remember({ replace: !isFirst, item: key, t: time_s === null ? "" : String(time_s) }),
    closed: (key, leaves, follows) => {
      focusCard(key);
      if (follows || !readAddress().item) return;
      if (history.state?.opened && !leaves && !leaving) leaveItem();
      else remember({ replace: true, item: "", t: "" });
    },
    removed: () => refresh(),
    reasoner: () => reasoner,
  });
  startAnswer(openByKey);
  startTaste(() => {
    tellEntries();
    changed({ keepsTaste: true });
  });
  startQuery({
    asked: () => changed(),
    narrowed: () => changed({ keepsTaste: true }),
    down: focusFirst,
    refused: (why) => say(problem, why),
  });
  byId("stale").addEventListener("click", () => refresh());
  addEventListener("popstate", onHistory);
  rememberPlace();
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, select, textarea, dialog")) {
      event.preventDefault();
      byId("text").focus();
    }
  });
  ready = startLibrary(
    (status) => {
      offerThinking(status);
      showReasoners(status.reasoners);
    },
    () => {
      if (!failed && (isAsked() || isChosen() || shown.hits.length > PAGE)) byId("stale").hidden = false;
      else refresh();
    },
  );
  applyAddress();
}

/** Keep where the page is scrolled to, for reload and back. */
function rememberPlace() {
  let timer = 0;
  addEventListener("scroll", () => {
    clearTimeout(timer);
    timer = setTimeout(() => history.replaceState({ ...history.state, at: topEntry() }, ""), 400);
  }, { passive: true });
}

start();
