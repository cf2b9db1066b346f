// Talking to the server.

import { t } from "./language.js";

/** The server said no. */
export class Refusal extends Error {
  constructor(status, error, retryAfter) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.code = error?.code ?? null;
    this.retryAfter = retryAfter;
  }
}

/** The server began to answer, and the connection broke off. */
export class BrokenOff extends Error {
  constructor() {
    super(t("broke_off"));
  }
}

/** The server did not answer at all. */
export class Gone extends Error {
  constructor() {
    super(t("server_gone"));
  }
}

let logIn = null;
let onReach = () => {};

/** Say what asks for the token when the server wants it; it returns once the server knows it. */
export function onLocked(ask) {
  logIn = ask;
}

/** Say what hears whether the server answers: `heard(answers)` after every request. */
export function onReachable(heard) {
  onReach = heard;
}

async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    onReach(false);
    throw new Gone();
  }
  onReach(true);
  if (response.status === 401 && path !== "/api/login" && logIn) {
    await logIn();
    return send(path, options);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Refusal(response.status, body.error, Number(response.headers.get("Retry-After")) || null);
}

export async function get(path, parameters, signal) {
  const query = parameters ? `?${new URLSearchParams(parameters)}` : "";
  return (await send(path + query, { signal })).json();
}

export async function postJson(path, body, signal) {
  const response = await send(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });
  return response.status === 204 ? null : response.json();
}

export async function postForm(path, form, signal) {
  return (await send(path, { method: "POST", body: form, signal })).json();
}

export async function remove(path) {
  return (await send(path, { method: "DELETE" })).json();
}

/** Post a form and hear how much of it is sent, 0..1. */
export function postWithProgress(path, form, onSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => event.lengthComputable && onSent(event.loaded / event.total));
    request.addEventListener("error", () => {
      onReach(false);
      reject(new Gone());
    });
    request.addEventListener("load", async () => {
      onReach(true);
      if (request.status === 401 && logIn) {
        await logIn();
        resolve(postWithProgress(path, form, onSent));
      } else if (request.status < 300) resolve(request.response);
      else reject(new Refusal(request.status, request.response?.error, Number(request.getResponseHeader("Retry-After")) || null));
    });
    request.send(form);
  });
}

/** Post a form, and yield [name, data] of the events that come back, up to the one called done. */
export async function* streamForm(path, form, signal) {
  const response = await send(path, { method: "POST", body: form, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await read(reader);
    if (done) throw new BrokenOff();
    const blocks = (waiting + value).split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const name = lines.find((line) => line.startsWith("event: "))?.slice(7);
      const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      if (name === "done") return;
      if (name) yield [name, JSON.parse(data.join("\n"))];
    }
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new BrokenOff();
  }
}
