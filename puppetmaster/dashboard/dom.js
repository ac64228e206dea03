// Making elements, and how times and numbers are written. Data becomes text nodes only, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `properties` are attributes, `on*` listeners; children are elements or text. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** One of the symbols of index.html; decoration, since its meaning always stands beside it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Set text only where it differs: an untouched node costs the browser nothing. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** The statuses of requests in the order in which bars and filters show them. */
export const STATUSES = ["resolved", "error", "timeout", "unknown", "canceled", "skipped", "sent", "pending"];
export const FAILED = ["error", "timeout", "unknown", "canceled", "skipped"];
export const JOB_STATUSES = ["pending", "dispatching", "paused", "resolved", "canceled", "aborted", "timeout"];
const JOB_ICONS = { dispatching: "sent", aborted: "error" };

/** A badge with the status of a job; a job that ended with failures is not shown as a success. */
export function jobBadge(job) {
  const troubled = job.status === "resolved" && job.errorCount > 0;
  const look = troubled ? "troubled" : job.status;
  const symbol = troubled ? "error" : JOB_ICONS[job.status] ?? job.status;
  return el("span", { class: `badge job-${look}` }, icon(symbol), troubled ? "resolved, with failures" : job.status);
}

/** A bar stacked by status; `update(counts)` moves it. */
export function stackedBar() {
  const parts = new Map(STATUSES.map((status) => [status, el("i", { class: `part s-${status}` })]));
  const bar = el("div", { class: "bar", role: "img" }, ...parts.values());
  bar.update = (counts) => {
    const said = STATUSES.filter((status) => counts[status]);
    for (const [status, part] of parts) {
      part.hidden = !counts[status];
      part.style.flexGrow = counts[status];
    }
    bar.setAttribute("aria-label", said.map((status) => `${counts[status]} ${status}`).join(", "));
  };
  return bar;
}

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const number = (value) => NUMBER.format(value);
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** Milliseconds as people say them. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 0) ms = 0;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  const two = (value) => String(value).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Milliseconds since then, roughly: ages need no more. */
export function age(ms) {
  if (ms < 5000) return "now";
  if (ms < 60_000) return `${Math.floor(ms / 1000)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h`;
  return `${Math.floor(ms / 86_400_000)} d`;
}

/** A time of the API in the viewer's own zone. */
export function moment(iso) {
  if (!iso) return "–";
  const at = new Date(iso);
  const today = at.toDateString() === new Date().toDateString();
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
  return at.toLocaleString("en-GB", today ? clock : { ...clock, day: "numeric", month: "short", year: "numeric" });
}

/** What came back, in one line. */
export function outcome(result) {
  if (!result || Object.keys(result).length === 0) return "";
  const said = result.message ?? (result.data === undefined ? "" : JSON.stringify(result.data));
  const line = [result.code, said].filter((part) => part !== undefined && part !== null && part !== "").join(" ");
  return (result.late ? "late: " : "") + (line.length > 200 ? `${line.slice(0, 200)}…` : line);
}

/** A policy in words. */
export function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (value !== null && typeof value === "object")
    return Object.entries(value).map(([name, one]) => `${name} ${plain(one)}`).join(", ");
  return String(value);
}

const waiting = new Set();
/** Run `draw` in the next animation frame, once however often it is asked for. */
export function soon(draw) {
  if (waiting.size === 0) requestAnimationFrame(() => {
    const all = [...waiting];
    waiting.clear();
    for (const one of all) one();
  });
  waiting.add(draw);
}
