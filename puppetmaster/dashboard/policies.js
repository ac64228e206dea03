// The optional properties of a job: as fields of a form, read from them, and said in words.

import { moment, number, plural, seconds } from "./words.js";

const digits = { inputmode: "decimal" };

/** The fields of the form, in their order. What they mean, and what holds without, the API says: `JobForm.hint`. */
export const POLICIES = [
  { name: "waves", label: "Waves" },
  { name: "gate.errors", label: "Gate: failures allowed" },
  { name: "gate.soak", label: "Gate: rest, s", ...digits },
  { name: "gate.onFail", label: "Gate: when it fails", options: [["pause", "the job pauses"], ["abort", "the job is aborted"]] },
  { name: "concurrency", label: "In flight at most" },
  { name: "rate", label: "Sent per second", ...digits },
  { name: "requestTimeout", label: "Answer within, s", ...digits },
  { name: "deliveryTimeout", label: "Wait for gateways, s", ...digits },
  { name: "timeout", label: "Whole job within, s", ...digits },
  { name: "retry.attempts", label: "Attempts at most", ...digits },
  { name: "retry.on", label: "Retry after" },
  { name: "retry.delay", label: "Before a retry, s", ...digits },
  { name: "retry.factor", label: "Each further delay, times", ...digits },
  { name: "retry.maxDelay", label: "Delays at most, s", ...digits },
  { name: "abort.errors", label: "Abort: failures allowed" },
  { name: "abort.after", label: "Abort: not before", ...digits },
  { name: "idempotent", label: "May be sent twice", options: [["true", "yes"], ["false", "no"]] },
  { name: "startAt", label: "Starts at", type: "datetime-local", step: "1" },
  { name: "notify", label: "Tell webhooks" },
];

const PERCENT = /^\d+(\.\d+)?\s*%$/;
const share = (said) => (PERCENT.test(said) ? said.replace(/\s/g, "") : count(said));

function count(said) {
  const value = Number(said);
  if (said === "" || !Number.isFinite(value)) throw new Error(`expected a number, got ${said}`);
  return value;
}

function words(said) {
  return said.split(/[\s,;]+/).filter(Boolean);
}

const READ = {
  waves: (said) => words(said).map(share),
  concurrency: share,
  "gate.errors": share,
  "abort.errors": share,
  "gate.onFail": String,
  "retry.on": words,
  notify: words,
  idempotent: (said) => said === "true",
  startAt: (said) => new Date(said).toISOString(),
};

/** The properties that were filled in; `fault(field, message)` is told what cannot be read. */
export function policies(form, fault) {
  const found = {};
  for (const { name } of POLICIES) {
    const said = String(form.get(name) ?? "").trim();
    if (said === "") continue;
    try {
      const [group, property] = name.split(".");
      const value = (READ[name] ?? count)(said);
      if (property) (found[group] ??= {})[property] = value;
      else found[group] = value;
    } catch (error) {
      fault(name, error.message);
    }
  }
  return found;
}

/** What stands in the fields of a job that has these properties. */
export function typed(job) {
  const found = {};
  for (const { name } of POLICIES) {
    const [group, property] = name.split(".");
    const value = property ? job[group]?.[property] : job[group];
    if (value === undefined || value === null) continue;
    found[name] = Array.isArray(value) ? value.join(", ") : name === "startAt" ? local(value) : String(value);
  }
  return found;
}

/** A time as a field for it takes it: in the zone of whoever looks, to the second. */
function local(iso) {
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** How many requests each wave of a job has. */
export function waveSizes({ waveEnds }) {
  return waveEnds.map((end, index) => end - (waveEnds[index - 1] ?? 0));
}

/** The largest number of failures among `size` that a limit of `percent` lets pass. */
function allowed(percent, size) {
  let most = Math.ceil((percent * size) / 100);
  while (most * 100 > percent * size) most -= 1;
  return most;
}

/** What may fail before a gate behind a wave of `size`: "0 may fail", "2 may fail (5%)"; with `what`: "2 requests may fail". */
export function gateLimit(gate, size, what = "") {
  const errors = gate?.errors ?? 0;
  const said = (most) => `${what ? plural(most, what) : number(most)} may fail`;
  if (typeof errors !== "string") return said(errors);
  return `${said(allowed(parseFloat(errors), size))} (${errors})`;
}

/** The gates behind waves of these sizes in a sentence; those of a job that `stops` count gateways. */
export function gateRule(gate, sizes, stops = false) {
  const { errors = 0, soak = 0, onFail = "pause" } = gate ?? {};
  const percent = typeof errors === "string" && errors !== "0%";
  const numbers = percent ? ` (${sizes.map((size) => number(allowed(parseFloat(errors), size))).join(", ")})` : "";
  const whom = stops ? "the wave's gateways" : "the wave";
  const limit = percent || Number(errors) > 0 ? `at most ${errors} of ${whom} failed${numbers}` : `none of ${whom} failed`;
  return `${limit}; else the job ${onFail === "abort" ? "is aborted" : "pauses"}${soak ? `. Then ${seconds(soak)} of rest` : ""}`;
}

function shareOf(value, total) {
  if (typeof value !== "string") return number(value);
  return `${number(Math.max(1, Math.ceil(Number(((total * parseFloat(value)) / 100).toFixed(9)))))}, which is ${value}`;
}

const SAID = {
  concurrency: (value, { totalCount }) => shareOf(value, totalCount),
  rate: number,
  requestTimeout: seconds,
  deliveryTimeout: seconds,
  timeout: seconds,
  retry: ({ attempts = 1, on = ["timeout", "error"], delay = 5, factor = 2, maxDelay = 300 }, { idempotent = null }) => {
    // What may have run is sent again only where it may run twice.
    const timeout = idempotent === null ? "a timeout of a GET" : idempotent && "a timeout";
    const after = [on.includes("error") && "an error", on.includes("timeout") && timeout].filter(Boolean);
    if (attempts < 2 || !after.length) return "1";
    const first = Math.min(delay, maxDelay);
    const later = first ? `${seconds(first / 2)} to ${seconds(first)} later` : "at once";
    const grows = attempts > 2 && factor > 1 && first && first < maxDelay;
    const longer = grows ? `, then ${number(factor)} times as long each time, at most ${seconds(maxDelay)}` : "";
    return `${number(attempts)}; another after ${after.join(" or ")}, ${later}${longer}`;
  },
  onFail: (value) => (value === "stop" ? "one after the other, and no more there once one failed" : "all, also when one failed"),
  abort: ({ errors, after = 1 }, { onFail }) => {
    const stops = onFail === "stop";
    const limit = typeof errors === "string" ? `${errors} of ${stops ? "the gateways" : "those"} done` : stops ? plural(errors, "gateway") : number(errors);
    return `more than ${limit} failed${after > 1 ? `, once ${number(after)} are done` : ""}`;
  },
  waves: (_, job) => waveSizes(job).map(number).join(" → "),
  gate: (value, job, sizes) => gateRule(value, sizes.slice(0, -1), job.onFail === "stop"),
  idempotent: (value) => (value ? "yes" : "not what may have run"),
  startAt: (value) => moment(value),
  notify: (value) => value.join(", "),
};
const LABELS = {
  waves: "Waves", gate: "Gate opens when", onFail: "Requests of a gateway", concurrency: "In flight at most", rate: "Sent per second",
  requestTimeout: "Answer within", deliveryTimeout: "Waits for gateways", timeout: "Whole job within", retry: "Attempts at most", abort: "Aborts when",
  idempotent: "May be sent twice", startAt: "Starts at", notify: "Tells",
};

/** What a job was given, as facts; a job with waves has a gate between them, also unsaid: `sizes` is what these count. */
export function described(job, without = [], sizes = job.waves && waveSizes(job)) {
  const given = job.waves ? { gate: null, ...job } : job;
  return Object.keys(LABELS)
    .filter((name) => !without.includes(name) && given[name] !== undefined && (given[name] !== null || name === "gate"))
    .map((name) => [LABELS[name], SAID[name](given[name], job, sizes), name === "startAt" ? given[name] : null]);
}
