// A job as a file.

import { call } from "./api.js";
import { attempt, download } from "./dialogs.js";
import { Exact } from "./json.js";

const PAGE = 2000;
// A long answer over a slow line is no fault.
const PATIENCE_MS = 600_000;
const FIELDS = ["createdAt", "sentAt", "finishedAt"];
const HEAD = ["id", "destination", "method", "resource", "status", "why", "attempts", ...FIELDS, "code", "source", "message", "data"];

/** The answer as it came: nothing reads it on its way into the file. */
export function exportJson(id) {
  return attempt(async () => {
    const { data } = await call("GET", `/jobs/${id}`, undefined, { raw: true, patienceMs: PATIENCE_MS });
    download(`job-${id}.json`, "application/json", [data]);
  });
}

/** A line per request. */
export function exportCsv(id) {
  return attempt(async () => {
    const parts = ["\uFEFF", line(HEAD)];
    for (let offset = 0, left = 1; left > 0; offset += PAGE) {
      const { data, total } = await call("GET", `/jobs/${id}/requests?limit=${PAGE}&offset=${offset}`);
      parts.push(csv(data));
      left = total - offset - PAGE;
    }
    download(`job-${id}.csv`, "text/csv", parts);
  });
}

/** Requests as lines. What a spreadsheet would take for a formula is marked as text. */
export function csv(requests) {
  return requests.map(({ id, method, resource, __request: inner }) => line([
    id, inner.destination, method, resource, inner.status, inner.why, inner.attempts, ...FIELDS.map((name) => inner[name]),
    inner.result.code, inner.result.source, inner.result.message, inner.result.data,
  ])).join("");
}

function line(values) {
  return `${values.map(cell).join(",")}\r\n`;
}

function cell(value) {
  const bare = typeof value === "number" || value instanceof Exact;
  let said = value === null || value === undefined ? "" : typeof value === "object" && !bare ? JSON.stringify(value) : String(value);
  if (!bare && /^[=+\-@\t\r]/.test(said)) said = `'${said}`;
  return /[",\r\n]/.test(said) ? `"${said.replaceAll('"', '""')}"` : said;
}
