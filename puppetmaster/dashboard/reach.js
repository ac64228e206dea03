// Which gateways something reaches, and which have failed: for questions that are asked before it.

import { el } from "./dom.js";
import { fold } from "./ranges.js";
import { FAILED, FAILURES, number, plural, tally } from "./words.js";

const PATTERNS = 8;

/** The names of the gateways of these requests, folded: "cg-[001-038]". */
export function folded(requests) {
  const patterns = fold(new Set(requests.map((request) => request.__request.destination)));
  const more = patterns.length - PATTERNS;
  return el("span", { class: "names" }, patterns.slice(0, PATTERNS).map((pattern) => el("code", {}, pattern)),
    more > 0 ? `and ${number(more)} more` : null);
}

/** The requests of these statuses that are loaded, of those from one place to another. */
export function having(rows, statuses, from = 0, to = rows.items.length) {
  return rows.items.slice(from, to).filter((request) => statuses.includes(request?.__request.status));
}

/** What is said of them beside a name: how many, and which gateways. */
export function told(name, requests, said = plural(requests.length, "request")) {
  return requests.length ? [name, el("span", {}, el("span", {}, said), folded(requests))] : [name, "none"];
}

/** What has failed, of those from one place to another: of what stops at a failure, how many gateways. */
export function failures(name, rows, from = 0, to = rows.items.length) {
  const stops = rows.stops && rows.inGateways;
  const failed = having(rows, stops ? FAILURES : FAILED, from, to);
  const counts = {};
  for (const { __request: { status } } of failed) counts[status] = (counts[status] ?? 0) + 1;
  const among = stops ? `${number(failed.length)} of ${plural(rows.between(from, to).length, "gateway")}: ` : "";
  return told(name, failed, among + tally(counts, FAILED));
}
