// The language of the page: the browser's, or the one that was chosen here before.

import { STRINGS } from "./strings.js";

const KEPT = "embedrl-language";

/** "en", "zh", …: a row of the table of strings. */
export const language = chosenLanguage();

/** The words of a key, with values filled in; `n` also chooses between one and many. */
export function t(key, values = {}) {
  const words = STRINGS[language][key] ?? STRINGS.en[key];
  if (words === undefined) throw new Error(`no such string: ${key}`);
  const [one, many] = words.split("|");
  const number = (value) => (typeof value === "number" ? value.toLocaleString(language) : value);
  return (many === undefined || values.n === 1 ? one : many).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? number(values[name]) : whole));
}

/** The words of a key that this language may lack, or null. */
export function known(key) {
  return STRINGS[language][key] ?? null;
}

/** What a check of evidence says, in this language: the server's words are English. */
export function checkWords(words) {
  return STRINGS[language].checks[words] ?? words;
}

/** Why there is no T-CoT, by the server's code for it, or null for what has none. */
export function failures(code) {
  return STRINGS[language].failures[code] ?? null;
}

/** Put the words of this language where the markup names their keys: in `data-t`, and in attributes by `data-t-NAME`. */
export function translate(root) {
  document.documentElement.lang = language;
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const name of ["aria-label", "placeholder", "title"]) {
    for (const node of root.querySelectorAll(`[data-t-${name}]`)) node.setAttribute(name, t(node.getAttribute(`data-t-${name}`)));
  }
}

/** Go on in another language: what the page shows is in its address, so it is loaded again. */
export function chooseLanguage(code) {
  keep(KEPT, code);
  location.reload();
}

export const languages = Object.keys(STRINGS);

/** Keep a small fact in this browser; without storage it holds until the page is closed. */
export function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    document.documentElement.dataset[name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())] = value;
  }
}

export function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function chosenLanguage() {
  const wanted = [kept(KEPT), ...(navigator.languages ?? [navigator.language])].filter(Boolean);
  for (const each of wanted) {
    const code = each.toLowerCase().split("-")[0];
    if (code in STRINGS) return code;
  }
  return "en";
}
