// Results that lie in the same file (pages of a document, scenes of a film) are gathered under the best of them.

/** Return one entry for each file, in the order of its best hit: {hit, others, at}; `at` is the rank of the best, from 0. */
export function gather(hits) {
  const entries = new Map();
  hits.forEach((hit, at) => {
    const known = entries.get(hit.path);
    if (known) known.others.push(hit);
    else entries.set(hit.path, { hit, others: [], at });
  });
  return [...entries.values()];
}

/** All hits in the order in which entries show them. */
export function flat(entries) {
  return entries.flatMap(({ hit, others }) => [hit, ...others]);
}
