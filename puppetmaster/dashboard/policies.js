// The optional properties of a job: as fields of a form, read from them, and said in words.

import { gateRule, waveSizes } from "./rollout.js";
import { moment, number, seconds } from "./words.js";

const digits = { inputmode: "decimal" };

export const POLICIES = [
  { name: "waves", label: "Waves", placeholder: "1, 10%, 100%", help: "each ends at so many requests" },
  { name: "gate.errors", label: "Gate: failures allowed", placeholder: "0", help: "a number or a percentage" },
  { name: "gate.soak", label: "Gate: rest, s", placeholder: "0", help: "between two waves", ...digits },
  { name: "gate.onFail", label: "Gate: when it fails", options: [["pause", "the job pauses"], ["abort", "the job is aborted"]] },
  { name: "concurrency", label: "In flight at most", placeholder: "automatic", help: "a number or a percentage" },
  { name: "rate", label: "Sent per second", placeholder: "no limit", ...digits },
  { name: "requestTimeout", label: "Answer within, s", placeholder: "60", ...digits },
  { name: "timeout", label: "Whole job within, s", placeholder: "no limit", ...digits },
  { name: "retry.attempts", label: "Attempts at most", placeholder: "1", help: "again after an error; after a timeout only what may be sent twice", ...digits },
  { name: "retry.delay", label: "Before a retry, s", placeholder: "5", help: "at most, and half of it at least", ...digits },
  { name: "abort.errors", label: "Abort: failures allowed", placeholder: "any", help: "a number or a percentage" },
  { name: "abort.after", label: "Abort: not before", placeholder: "automatic", help: "requests are done; 1, for a percentage 10 or more", ...digits },
  { name: "idempotent", label: "May be sent twice", help: "when it may have run; else only a GET", options: [["true", "yes"], ["false", "no"]] },
  { name: "startAt", label: "Starts at", type: "datetime-local", step: "1" },
];

const PERCENT = /^\d+(\.\d+)?\s*%$/;
const share = (said) => (PERCENT.test(said) ? said.replace(/\s/g, "") : count(said));

function count(said) {
  const value = Number(said);
  if (said === "" || !Number.isFinite(value)) throw new Error(`expected a number, got ${said}`);
  return value;
}

const READ = {
  waves: (said) => said.split(/[\s,;]+/).filter(Boolean).map(share),
  concurrency: share,
  "gate.errors": share,
  "abort.errors": share,
  "gate.onFail": String,
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

function shareOf(value, total) {
  if (typeof value !== "string") return number(value);
  return `${number(Math.max(1, Math.ceil(Number(((total * parseFloat(value)) / 100).toFixed(9)))))}, which is ${value}`;
}

const SAID = {
  concurrency: (value, { totalCount }) => shareOf(value, totalCount),
  rate: number,
  requestTimeout: seconds,
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
  abort: ({ errors, after = 1 }) => {
    const limit = typeof errors === "string" ? `${errors} of those done` : number(errors);
    return `more than ${limit} failed${after > 1 ? `, once ${number(after)} are done` : ""}`;
  },
  waves: (value, { totalCount }) => waveSizes(value, totalCount).map(number).join(" → "),
  gate: (value, { waves, totalCount }) => gateRule(value, waveSizes(waves, totalCount).slice(0, -1)),
  idempotent: (value) => (value ? "yes" : "not what may have run"),
  startAt: (value) => moment(value),
};
const LABELS = {
  waves: "Waves", gate: "Gate opens when", concurrency: "In flight at most", rate: "Sent per second",
  requestTimeout: "Answer within", timeout: "Whole job within", retry: "Attempts at most", abort: "Aborts when",
  idempotent: "May be sent twice", startAt: "Starts at",
};

/** What a job was given, as facts; a job with waves has a gate between them, also unsaid. */
export function described(job, without = []) {
  const given = job.waves ? { gate: null, ...job } : job;
  return Object.keys(LABELS)
    .filter((name) => !without.includes(name) && given[name] !== undefined && (given[name] !== null || name === "gate"))
    .map((name) => [LABELS[name], SAID[name](given[name], job), name === "startAt" ? given[name] : null]);
}
