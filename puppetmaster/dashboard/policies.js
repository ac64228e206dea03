// The optional properties of a job as fields of a form, and read from them.

const number = { inputmode: "decimal" };

export const POLICIES = [
  { name: "waves", label: "Waves", placeholder: "1, 10%, 100%", help: "each ends at so many requests" },
  { name: "gate.errors", label: "Gate: failures borne", placeholder: "0 or 5%" },
  { name: "gate.soak", label: "Gate: wait, s", placeholder: "0", ...number },
  { name: "gate.onFail", label: "Gate: when it fails", options: [["pause", "pause"], ["abort", "abort"]] },
  { name: "concurrency", label: "In flight at most", placeholder: "automatic, 40 or 10%" },
  { name: "rate", label: "Sent per second", placeholder: "no limit", ...number },
  { name: "requestTimeout", label: "Answer within, s", placeholder: "as configured", ...number },
  { name: "timeout", label: "Whole job within, s", placeholder: "no limit", ...number },
  { name: "retry.attempts", label: "Attempts", placeholder: "1", ...number },
  { name: "retry.delay", label: "Before a retry, s", placeholder: "5", ...number },
  { name: "abort.errors", label: "Abort after failures", placeholder: "never, 5 or 10%" },
  { name: "abort.after", label: "Abort only after", placeholder: "1", help: "requests that are done", ...number },
  { name: "idempotent", label: "May be sent twice", options: [["true", "yes"], ["false", "no"]] },
  { name: "startAt", label: "Start at", type: "datetime-local", step: "1" },
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

/** The properties that were filled in; `fault(path, message)` is told what cannot be read. */
export function policies(form, fault) {
  const found = {};
  for (const { name, label } of POLICIES) {
    const said = String(form.get(name) ?? "").trim();
    if (said === "") continue;
    try {
      const [group, property] = name.split(".");
      const value = (READ[name] ?? count)(said);
      if (property) (found[group] ??= {})[property] = value;
      else found[group] = value;
    } catch (error) {
      fault(label, error.message);
    }
  }
  return found;
}
