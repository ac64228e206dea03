// A job once more, in the form of a new one: what to type there, and what of it a form cannot say.

import { call, now } from "./api.js";
import { write } from "./json.js";
import { typed } from "./policies.js";
import { foldInOrder } from "./ranges.js";
import { LABELS, typedTo } from "./to.js";
import { moment, number, plural } from "./words.js";

const PAGE = 2000;

/** `{values, notes}`: the values of the fields, and sentences. Throws what `call` throws. */
export async function again(id) {
  const { data: job } = await call("GET", `/jobs/${id}?limit=0`);
  const { first, names, others } = await commands(id, job.totalCount);
  const late = job.startAt && Date.parse(job.startAt) <= now();
  const data = write(first.data);
  const notes = [];
  if (others) {
    notes.push(`It has ${number(others + 1)} different commands, and this form has one: here is the first, `
      + `${first.method.toUpperCase()} ${first.resource}, with its ${plural(names.length, "gateway")}.`);
  }
  if (job.onFail === "stop") {
    notes.push("It gets a gateway's requests there one after the other, and stops there at a failure (onFail): with one command there is nothing to stop.");
  }
  if (first.code !== undefined) notes.push("It sends events, which have a code. This form cannot: it would send commands.");
  const target = asked(job, names.length);
  if (target) {
    notes.push(`It was for ${said(target)}: ${plural(names.length, "gateway")} then. Those that fit now are looked for again, unless `
      + `you choose under ${LABELS.by} those that are named: these are the gateways that it went to.`);
  }
  if (!target && job.targets) notes.push("It looked for its gateways in several ways, and this form has one: here are their names.");
  if (late) notes.push(`Its time to start, ${moment(job.startAt)}, is past, and is left out.`);
  return {
    values: {
      ...typed(late ? { ...job, startAt: null } : job),
      name: job.name ?? "", method: first.method, resource: first.resource, data: data === "{}" ? "" : data,
      to: foldInOrder(names).join("\n"), ...target ? typedTo(target) : {},
    },
    notes,
  };
}

/** The job of a template in the form: `{values, notes, template}`. Throws what `call` throws. */
export async function ofTemplate(id) {
  const { data: template } = await call("GET", `/templates/${id}`);
  const { batch: [first, ...more], name, ...given } = template.job;
  const to = first.__request?.destination ?? first.__request?.__destination ?? first.__destination;
  const named = typeof to === "string" ? [to] : Array.isArray(to) ? to : null;
  const data = write(first.data ?? {});
  const notes = [];
  if (more.length) notes.push(`It has ${number(more.length + 1)} commands, and this form has one: here is the first.`);
  if (given.onFail === "stop") notes.push("It stops at a gateway after a failure (onFail): with one command there is nothing to stop.");
  if (first.code !== undefined) notes.push("It sends events, which have a code. This form cannot: it would send commands.");
  return {
    template,
    values: {
      ...typed(given), name: name ?? "", method: first.method.toLowerCase(), resource: first.resource, data: data === "{}" ? "" : data,
      ...named ? { to: foldInOrder(named).join("\n") } : typedTo(to),
    },
    notes,
  };
}

/** What its first item asked for instead of naming its gateways, if these are all there are of it; else undefined. */
function asked({ targets = [] }, count) {
  return targets.find(({ item, found }) => item === 0 && found === count);
}

function said({ selector, match, except, all }) {
  const which = all ? "all known gateways" : [selector, match].filter(Boolean).join(" and ");
  return which + (except ? `, without ${except.join(", ")}` : "");
}

/** The first command of a job, the gateways that it goes to, and how many other commands there are. */
async function commands(id, total) {
  let first = null;
  let said = "";
  const names = [];
  const others = new Set();
  for (let offset = 0; offset < total; offset += PAGE) {
    const { data } = await call("GET", `/jobs/${id}/requests?limit=${PAGE}&offset=${offset}`);
    for (const request of data) {
      const command = write([request.method, request.resource, request.data, request.code ?? null]);
      first ??= request;
      said ||= command;
      if (command === said) names.push(request.__request.destination);
      else others.add(command);
    }
  }
  return { first, names, others: others.size };
}
