// The optional properties of a job: as fields of a form, read from them, and said in words.

import { POLICIES as KNOWN } from "./contract.js";
import { moment, number, plural, seconds } from "./words.js";

/** What they are called here, in the order of the form. What they mean, and what holds without, the API says: `JobForm.hint`. */
const LABELS = {
  waves: "Waves", "gate.errors": "Gate: failures allowed", "gate.soak": "Gate: rest", "gate.onFail": "Gate: when it fails",
  concurrency: "In flight at most", rate: "Sent per second", requestTimeout: "Answer within", deliveryTimeout: "Waits for gateways",
  timeout: "Whole job within", "retry.attempts": "Attempts at most", "retry.on": "Retry after", "retry.delay": "Before a retry",
  "retry.factor": "Each further delay, times", "retry.maxDelay": "Delays at most", "abort.errors": "Abort: failures allowed",
  "abort.after": "Abort: not before", idempotent: "May be sent twice", "maintenance.cron": "Window opens at",
  "maintenance.duration": "Window is open for", "maintenance.timezone": "Window's time zone", startAt: "Starts at", notify: "Tells webhooks",
};
/** The form has one command, of which there is no other to stop, and runs nothing again. */
const ELSEWHERE = ["onFail", "rerun.job", "rerun.status"];
const WORDS = { pause: "the job pauses", abort: "the job is aborted" };
const digits = () => ({ inputmode: "decimal" });
/** By the sort of value: the attributes of its field. */
const FIELDS = {
  number: digits, pause: digits, count: digits,
  choice: ({ words }) => ({ options: words.map((word) => [word, WORDS[word] ?? word]) }),
  flag: () => ({ options: [["true", "yes"], ["false", "no"]] }),
  time: () => ({ type: "datetime-local", step: "1" }),
};

/** The fields of the form, in their order; what the API has beyond those that have a label here comes last, under its own name. */
export const POLICIES = [...new Set([...Object.keys(LABELS), ...Object.keys(KNOWN)])]
  .filter((name) => name in KNOWN && !ELSEWHERE.includes(name))
  .map((name) => ({
    name, label: `${LABELS[name] ?? name}${KNOWN[name].seconds ? ", s" : ""}`, ...FIELDS[KNOWN[name].form]?.(KNOWN[name]),
  }));

/** The properties of a group such as `gate`, with what holds where they are not given. */
function whole(group, given) {
  const own = Object.keys(KNOWN).filter((path) => path.startsWith(`${group}.`));
  return { ...Object.fromEntries(own.map((path) => [path.slice(group.length + 1), KNOWN[path].default])), ...given };
}

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

/** By the sort of value: how what is typed is read. */
const READ = {
  text: String, choice: String, number: count, pause: count, count, share,
  shares: (said) => words(said).map(share),
  choices: words,
  names: words,
  flag: (said) => said === "true",
  time: (said) => new Date(said).toISOString(),
};

/** The properties that were filled in; `fault(field, message)` is told what cannot be read. */
export function policies(form, fault) {
  const found = {};
  for (const { name } of POLICIES) {
    const said = String(form.get(name) ?? "").trim();
    if (said === "") continue;
    try {
      const [group, property] = name.split(".");
      const value = READ[KNOWN[name].form](said);
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
    found[name] = Array.isArray(value) ? value.join(", ") : KNOWN[name].form === "time" ? local(value) : String(value);
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
  const { errors } = whole("gate", gate);
  const said = (most) => `${what ? plural(most, what) : number(most)} may fail`;
  if (typeof errors !== "string") return said(errors);
  return `${said(allowed(parseFloat(errors), size))} (${errors})`;
}

/** The gates behind waves of these sizes in a sentence; those of a job that `stops` count gateways. */
export function gateRule(gate, sizes, stops = false) {
  const { errors, soak, onFail } = whole("gate", gate);
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

/** What a job was given: its name as a fact, where that is another than in the form, and its value in words. */
const SAID = {
  waves: { say: (_, job) => waveSizes(job).map(number).join(" → ") },
  gate: { label: "Gate opens when", say: (value, job, sizes) => gateRule(value, sizes.slice(0, -1), job.onFail === "stop") },
  onFail: {
    label: "Requests of a gateway",
    say: (value) => (value === "stop" ? "one after the other, and no more there once one failed" : "all, also when one failed"),
  },
  concurrency: { say: (value, { totalCount }) => shareOf(value, totalCount) },
  rate: { say: number },
  requestTimeout: { say: seconds },
  deliveryTimeout: { say: seconds },
  timeout: { say: seconds },
  retry: { label: LABELS["retry.attempts"], say: retried },
  abort: {
    label: "Aborts when",
    say: ({ errors, after }, { onFail }) => {
      const stops = onFail === "stop";
      const limit = typeof errors === "string" ? `${errors} of ${stops ? "the gateways" : "those"} done` : stops ? plural(errors, "gateway") : number(errors);
      return `more than ${limit} failed${after > 1 ? `, once ${number(after)} are done` : ""}`;
    },
  },
  idempotent: { say: (value) => (value ? "yes" : "not what may have run") },
  maintenance: {
    label: "Sent only in windows",
    say: ({ cron, duration, timezone }) => `at ${cron} (${timezone ?? KNOWN["maintenance.timezone"].default}), for ${seconds(duration)} each`,
  },
  startAt: { say: (value) => moment(value) },
  notify: { say: (value) => value.join(", ") },
};

function retried(retry, { idempotent = null }) {
  const { attempts, on, delay, factor, maxDelay } = whole("retry", retry);
  // What may have run is sent again only where it may run twice.
  const timeout = idempotent === null ? "a timeout of a GET" : idempotent && "a timeout";
  const after = [on.includes("error") && "an error", on.includes("timeout") && timeout].filter(Boolean);
  if (attempts < 2 || !after.length) return "1";
  const first = Math.min(delay, maxDelay);
  const later = first ? `${seconds(first / 2)} to ${seconds(first)} later` : "at once";
  const grows = attempts > 2 && factor > 1 && first && first < maxDelay;
  const longer = grows ? `, then ${number(factor)} times as long each time, at most ${seconds(maxDelay)}` : "";
  return `${number(attempts)}; another after ${after.join(" or ")}, ${later}${longer}`;
}

/** What a job was given, as facts; a job with waves has a gate between them, also unsaid: `sizes` is what these count. */
export function described(job, without = [], sizes = job.waves && waveSizes(job)) {
  const given = job.waves ? { gate: null, ...job } : job;
  return Object.entries(SAID)
    .filter(([name]) => !without.includes(name) && given[name] !== undefined && (given[name] !== null || name === "gate"))
    .map(([name, { label = LABELS[name], say }]) => [label, say(given[name], job, sizes), name === "startAt" ? given[name] : null]);
}
