// How statuses, numbers, times and results are said.

import { DONE, FAILURES, OPEN } from "./contract.js";

export { FAILURES };
export { JOB_STATUSES, SOURCES, WAYS } from "./contract.js";

/** The statuses of requests in the order in which bars and filters show them. */
export const STATUSES = [...DONE, ...[...OPEN].reverse()];
export const FAILED = DONE.filter((status) => status !== "resolved");

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const number = (value) => NUMBER.format(value);
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** A sentence that began in the middle of another. */
export const capital = (said) => said.charAt(0).toUpperCase() + said.slice(1);

/** "8 error, 2 timeout": those of `statuses` that there are. */
export function tally(counts, statuses = STATUSES) {
  return statuses.filter((status) => counts[status]).map((status) => `${number(counts[status])} ${status}`).join(", ");
}

/** How many requests failed. */
export function failures(counts) {
  return FAILURES.reduce((sum, status) => sum + counts[status], 0);
}

/** How many gateways are there, as their bridges say; "" when none says anything. */
export function bridges({ connected, away }) {
  if (!connected && !away) return "";
  return `${plural(connected, "gateway")} connected, ${away ? `${number(away)} away` : "none away"}`;
}

/** Who leads, where more than one may: "leader 3 since 14:05:09". */
export function leads({ epoch, since }) {
  return `leader ${number(epoch)} since ${moment(since)}`;
}

/** What a job is called. */
export function title(job) {
  return job.name ?? (command(job) || `Job ${job.id}`);
}

/** What a job does: "POST /system/reboot and 2 more"; "" for jobs that are too old to tell. */
export function command(job) {
  return (job.summary ?? "").replace(/^[a-z]+/, (method) => method.toUpperCase());
}

/** Milliseconds as people say them. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 0) ms = 0;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  // As `age` has it: 12 s have not passed before 12 s have passed.
  if (ms < 10_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  const s = Math.floor(ms / 1000);
  const two = (value) => String(value).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Seconds as they were given: 40 s, 1 min, 10 h. */
export function seconds(s) {
  return s >= 60 || s < 1 ? duration(s * 1000).replace(/ 00 (s|min)$/, "").replace(/ 0 h$/, "") : `${number(s)} s`;
}

/** Milliseconds since then, roughly: ages need no more. */
export function age(ms) {
  if (ms < 5000) return "now";
  if (ms < 60_000) return `${Math.floor(ms / 1000)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h`;
  return `${Math.floor(ms / 86_400_000)} d`;
}

const DAY = { day: "numeric", month: "short", year: "numeric" };
/** To make one takes longer than to use it a hundred times, and 50,000 requests may wait for a time each. */
const formats = new Map();

function format(digits, today) {
  const key = `${digits} ${today}`;
  if (!formats.has(key)) {
    formats.set(key, new Intl.DateTimeFormat("en-GB", {
      hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false, ...today ? {} : DAY, ...digits ? { fractionalSecondDigits: digits } : {},
    }));
  }
  return formats.get(key);
}

/** A time of the API in the viewer's own zone; `digits` of its second where they matter. */
export function moment(iso, digits = 0) {
  if (!iso) return "–";
  const at = new Date(iso);
  return format(digits, at.toDateString() === new Date().toDateString()).format(at);
}

/** The same time where everybody means the same by it. */
export function utc(iso) {
  return iso ? `${iso.replace("T", " ").replace("Z", "")} UTC` : "";
}

const TIMES = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g;
/** A sentence of puppetmaster, with its times in the viewer's own zone. */
export const inZone = (said) => said.replace(TIMES, (iso) => moment(iso));

/** The message of a result: what others say stays as it is. */
export const messageOf = ({ source, message }) => (source === "puppetmaster" && message ? inZone(message) : message);

/** What came back, in one line. */
export function outcome(result) {
  if (!result || Object.keys(result).length === 0) return "";
  const said = messageOf(result) ?? (result.data === undefined ? "" : JSON.stringify(result.data));
  const line = [result.code, said].filter((part) => part !== undefined && part !== null && part !== "").join(" ");
  return (result.late ? "late: " : "") + (line.length > 200 ? `${line.slice(0, 200)}…` : line);
}

/** Words of the API as a sentence of their own: "Expected a number, got x." A name that it begins with stays as it is. */
export function sentence(said) {
  return said.replace(/^[a-z](?=[a-z]* )/, (first) => first.toUpperCase()) + (/[.!?]$/.test(said) ? "" : ".");
}
