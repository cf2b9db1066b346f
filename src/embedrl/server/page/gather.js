// A result is a file: its best page, scene or passage, with the others that were found.

/** Return one entry for each hit: {hit, others, numOthers, at}; `others` are some of the file's other units, `at` is the rank from 0. */
export function gather(hits) {
  return hits.map((hit, at) => ({ hit, others: hit.other_units ?? [], numOthers: hit.num_other_units ?? 0, at }));
}

/** The entry that an item is in, as its best unit or as another, or -1. */
export function placeOf(entries, key) {
  const best = entries.findIndex(({ hit }) => hit.key === key);
  return best >= 0 ? best : entries.findIndex(({ others }) => others.some((other) => other.key === key));
}
