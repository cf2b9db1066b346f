// Asking the server for results, page by page. Each function starts one way of asking and gives a first page; `more` loads the next one.

import { Refusal, get, postForm, postJson, streamForm } from "./api.js";
import { filters } from "./query.js";
import { wanted } from "./taste.js";

export const PAGE = 48;
const PICTURES = ["image", "video", "page"];

/** What is there: a first screen of pictures before texts, or what passes the filters. */
export function browse({ reasoner, signal }) {
  const { modality, min_score: _, sort, ...others } = filters();
  const isNarrowed = modality.length || sort || Object.keys(others).length;
  const parts = isNarrowed ? [modality] : [PICTURES, ["text"]];
  const fixed = { ...others, ...(sort ? { sort } : {}), ...(reasoner ? { reasoner } : {}) };
  let [part, start] = [0, 0];
  const ask = (offset) => {
    const parameters = new URLSearchParams({ ...fixed, offset: offset - start, limit: PAGE });
    for (const kind of parts[part]) parameters.append("modality", kind);
    return get("/api/items", parameters, signal);
  };
  return async function more(offset) {
    const answer = await ask(offset);
    let hits = answer.items;
    let { total } = answer;
    while (!answer.more && part + 1 < parts.length) {
      [part, start] = [part + 1, offset + hits.length];
      const next = await ask(start);
      hits = [...hits, ...next.items];
      total += next.total;
      answer.more = next.more;
    }
    return { hits, total, more: answer.more || part + 1 < parts.length };
  };
}

/** A search for what was asked (`form`), page by page; with reasoning, the plain result comes with it as `plain`, since ranks are shown side by side. */
export function search({ form, think, reasoner, signal }) {
  const ask = (offset, thinks) => postForm("/api/search", body(form, { think: thinks, reasoner, offset }), signal);
  return async (offset) => {
    const [answer, plain] = await Promise.all([ask(offset, think), think !== "never" ? ask(offset, "never") : null]);
    return plain ? { ...answer, plain: plain.hits } : answer;
  };
}

/** The plain result at once, then the reasoned one with the ranks that changed: yields [name, answer]. */
export async function* stream({ form, think, reasoner, signal }) {
  for await (const [name, answer] of streamForm("/api/search/stream", body(form, { think, reasoner, offset: 0 }), signal)) {
    if (name === "error") throw new Refusal(0, answer.error);
    yield [name, answer];
  }
}

/** What is like the liked items. */
export function recommend({ think, reasoner, signal }) {
  const { modality, sort: _, min_score, ...others } = filters();
  const narrowed = { ...others, modality: modality.length ? modality : null, min_score: min_score ? Number(min_score) : null };
  const examples = wanted();
  return (offset) => postJson("/api/similar", { ...examples, ...narrowed, offset, limit: PAGE, think: think !== "never", reasoner }, signal);
}

function body(form, { think, reasoner, offset }) {
  const sent = new FormData();
  for (const [name, value] of form) sent.append(name, value);
  for (const [name, value] of Object.entries({ think, offset, limit: PAGE, ...(reasoner ? { reasoner } : {}) })) sent.append(name, value);
  return sent;
}
