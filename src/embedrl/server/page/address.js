// The address of the page holds all that it shows: what is asked, filters, likes, the Reasoner, and the opened item.

const SINGLE = ["q", "image", "words", "under", "camera", "area", "since", "until", "min_score", "sort", "variety", "reasoner", "think"];
const SEVERAL = ["modality", "like", "dislike"];
const OPENED = ["item", "t"];
const KEY = /^[0-9a-f]{64}$/;

/** What an address asks for: a text for each single name, a list for the others. */
export function readAddress(search = location.search) {
  const fields = new URLSearchParams(search);
  const state = {};
  for (const name of [...SINGLE, ...OPENED]) state[name] = fields.get(name) ?? "";
  for (const name of SEVERAL) state[name] = fields.getAll(name);
  for (const name of ["like", "dislike"]) state[name] = [...new Set(state[name].filter((key) => KEY.test(key)))];
  if (!KEY.test(state.item)) state.item = "";
  return state;
}

/** The address of a state. What is empty is left out. */
export function addressOf(state, { opened = true } = {}) {
  const fields = new URLSearchParams();
  for (const name of SINGLE) if (state[name]) fields.set(name, state[name]);
  for (const name of SEVERAL) for (const value of state[name] ?? []) fields.append(name, value);
  if (opened) for (const name of OPENED) if (state[name]) fields.set(name, state[name]);
  const query = fields.toString();
  return query ? `?${query}` : location.pathname;
}
