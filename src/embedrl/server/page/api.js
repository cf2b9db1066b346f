// Talking to the server.

/** The server said no. */
export class Refusal extends Error {
  constructor(status, error, retryAfter) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

let logIn = null;

/** Say what asks for the token when the server wants it; it returns once the server knows it. */
export function onLocked(ask) {
  logIn = ask;
}

async function send(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", ...options });
  if (response.status === 401 && path !== "/api/login" && logIn) {
    await logIn();
    return send(path, options);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Refusal(response.status, body.error, Number(response.headers.get("Retry-After")) || null);
}

export async function get(path, parameters) {
  const query = parameters ? `?${new URLSearchParams(parameters)}` : "";
  return (await send(path + query)).json();
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

/** Post a form, and yield [name, data] of the events that come back, up to the one called done. */
export async function* streamForm(path, form, signal) {
  const response = await send(path, { method: "POST", body: form, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refusal(0, { message: "the connection broke off: search again" });
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
