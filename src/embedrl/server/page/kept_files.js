// Pictures and clips that were searched with, kept in this browser, so that reload and back find them again.

const NAME = "embedrl";
const STORE = "queries";
const MAX_FILES = 20;
export const OWN = /^own-[0-9a-z]+$/;

/** Keep a file, and return the name by which an address calls it. */
export async function keepFile(file) {
  const id = `own-${Date.now().toString(36)}${Math.floor(Math.random() * 36 ** 4).toString(36)}`;
  try {
    const store = await opened("readwrite");
    await done(store.put(file, id));
    const ids = await done(store.getAllKeys());
    for (const old of ids.sort().slice(0, Math.max(0, ids.length - MAX_FILES))) store.delete(old);
  } catch {
    // No storage here, as in a private window: the search works, only its address does not carry the file.
  }
  return id;
}

/** The file of that name, or null. */
export async function keptFile(id) {
  try {
    return (await done((await opened("readonly")).get(id))) ?? null;
  } catch {
    return null;
  }
}

async function opened(mode) {
  const request = indexedDB.open(NAME, 1);
  request.addEventListener("upgradeneeded", () => request.result.createObjectStore(STORE));
  return (await done(request)).transaction(STORE, mode).objectStore(STORE);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
    request.addEventListener("blocked", () => reject(new Error("blocked")));
  });
}
