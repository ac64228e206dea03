// The door: requests with the token.

import { parse } from "./json.js";

const TOKEN = "puppetmaster-token";
const PATIENCE_MS = 30_000;

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
  constructor() {
    super("puppetmaster did not answer.");
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
 * One request: `{data, total}`. Text as `body` goes as it is; with `raw` the data are the answer's bytes.
 * Throws ApiError, Unanswered.
 */
export async function call(method, path, body, { patienceMs = PATIENCE_MS, raw = false } = {}) {
  for (;;) {
    const known = token();
    const headers = known ? { Authorization: `Bearer ${known}` } : {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const said = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
    const answer = await fetch(path, { method, headers, body: said, signal: AbortSignal.timeout(patienceMs) }).catch(nobody);
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

function nobody() {
  throw new Unanswered();
}

function newToken(refused) {
  asking ??= askForToken(refused).then((typed) => {
    sessionStorage.setItem(TOKEN, typed);
    asking = null;
  });
  return asking;
}

/** A query string of what is not empty. */
export function queryOf(parameters) {
  const said = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return said.length ? `?${new URLSearchParams(said)}`.replaceAll("%2C", ",") : "";
}
