// What is shown, as the address says it behind #: Back, a bookmark and a reload show it again.

import { queryOf } from "./api.js";

/** Where the list was left: from a job one goes back there. */
export const list = { hash: "#/" };

/** `#/jobs/12/results?status=error`: its parts and its parameters. */
export function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean), parameters: new URLSearchParams(query) };
}

/** Those of the comma separated words that are known. */
export function known(said, words) {
  const given = (said ?? "").split(",");
  return words.filter((word) => given.includes(word));
}

/** The number of the page in parameters. */
export const pageIn = (parameters) => Math.min(Math.max(1, Math.floor(Number(parameters.get("page"))) || 1), 1e9);

/** Say what is shown; with `push`, Back leads to what was shown before. */
export function write(path, parameters, { push = false } = {}) {
  const hash = `#/${path}${queryOf(parameters)}`;
  if (hash === location.hash) return hash;
  if (push) history.pushState({ pushed: true }, "", hash);
  else history.replaceState(history.state, "", hash);
  return hash;
}

/** Whether Back leads to what was shown before `write` said this. */
export function pushed() {
  return Boolean(history.state?.pushed);
}
