// The door: requests with the token.

import { parse } from "./json.js";

const TOKEN = "puppetmaster-token";
const PATIENCE_MS = 30_000;
/** Who has not answered by now is asked for nothing that changes something. */
const SLOW_MS = 2000;
/** Where it answers is told by where this module came from: a proxy may have put all of it below some path. */
const ROOT = new URL("..", import.meta.url);

/** The address of a path of the API. */
export function at(path) {
  return new URL(path.slice(1), ROOT);
}

/** An answer that is an error of the API. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body?.message ?? `The answer was ${status}.`);
    this.status = status;
    this.errors = body?.errors ?? [];
  }
}

/** Nobody answered, or not in time. */
export class Unanswered extends Error {
  constructor(changing) {
    super(`puppetmaster did not answer.${changing ? " Whether it was done is not known yet." : ""}`);
    this.errors = [];
  }
}

/** Nothing was sent, since nobody would have answered. */
class Unsent extends Error {
  constructor(why) {
    super(`${why} Nothing was sent.`);
    this.errors = [];
  }
}

let askForToken = async () => "";
let asking = null;
let skewMs = 0;

/** `ask` shows a dialog and gives the token that was typed. */
export function onUnauthorized(ask) {
  askForToken = ask;
}

/** The token of this tab, null where there is none. */
export function token() {
  return sessionStorage.getItem(TOKEN);
}

/** The time on the gateway's clock, as the answers tell it; a second is as exact as they are. */
export function now() {
  return Date.now() + skewMs;
}

/**
 * One request: `{data, total}`. Text as `body` goes as it is; with `raw` the data are the answer's bytes. `slow()` is
 * called when there is no answer in `SLOW_MS`.
 * Throws ApiError, Unanswered, Unsent.
 */
export async function call(method, path, body, { patienceMs = PATIENCE_MS, raw = false, slow = () => {} } = {}) {
  const changing = method !== "GET";
  const nobody = () => {
    throw new Unanswered(changing);
  };
  if (changing) await reach();
  for (;;) {
    const known = token();
    const headers = known ? { Authorization: `Bearer ${known}` } : {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const said = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
    const late = setTimeout(slow, SLOW_MS);
    const answer = await fetch(at(path), { method, headers, body: said, signal: AbortSignal.timeout(patienceMs) })
      .catch(nobody).finally(() => clearTimeout(late));
    const skew = Date.parse(answer.headers.get("Date")) - Date.now();
    skewMs = Math.abs(skew) > 2000 ? skew : 0;
    if (answer.status === 401) {
      // Another request may have asked and been told meanwhile.
      if (known === token()) await newToken(known !== null);
      continue;
    }
    if (!answer.ok) throw new ApiError(answer.status, await answer.json().catch(() => null));
    const data = raw ? await answer.blob().catch(nobody) : parse(await answer.text().catch(nobody));
    return { data, total: Number(answer.headers.get("X-Total-Count")) };
  }
}

/** What nobody takes in now would wait on the way, and be done later, when nobody wants it any more. */
async function reach() {
  try {
    await call("GET", "/system/puppetmaster", undefined, { patienceMs: SLOW_MS });
  } catch (error) {
    if (error instanceof Unanswered) throw new Unsent(error.message);
  }
}

function newToken(refused) {
  asking ??= askForToken(refused).then((typed) => {
    sessionStorage.setItem(TOKEN, typed);
    asking = null;
  });
  return asking;
}

/** The beginning of the keys that this page makes. */
const OWN_KEY = "page-";

/** Whether this page made the key of a job: it tells nobody anything. */
export const isOwn = (key) => key.startsWith(OWN_KEY);

/** A key that no other job has. */
export function newKey() {
  return OWN_KEY + [...crypto.getRandomValues(new Uint32Array(4))].map((word) => word.toString(36)).join("");
}

/** What makes jobs at a press. Until a press was answered the next one has its key: it finds the job that is there already. */
export class Maker {
  /** The new job. Throws what `call` throws. */
  async make(path, body) {
    this.key ??= newKey();
    try {
      const { data } = await call("POST", path, { ...body, key: this.key });
      this.key = null;
      return data;
    } catch (error) {
      if (error instanceof ApiError) this.key = null;
      throw error;
    }
  }
}

/** A query string of what is not empty. */
export function queryOf(parameters) {
  const said = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return said.length ? `?${new URLSearchParams(said)}`.replaceAll("%2C", ",") : "";
}
