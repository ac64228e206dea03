// The requests of one job: in an array by their ids, which follow each other, and what of them is shown.

import { call } from "./api.js";
import { outcome } from "./words.js";

const PAGE = 2000;
/** What a gateway with several requests shows: the first of these that one of them has. */
export const WORST = ["error", "timeout", "unknown", "sent", "pending", "canceled", "skipped", "resolved"];

export class Rows {
  constructor() {
    this.filter = { status: new Set(), text: "" };
    this.sort = { by: null, down: false };
    this.clear([]);
  }

  clear(ids) {
    this.first = ids[0] ?? 0;
    this.items = new Array(ids.length);
    this.told = new Uint8Array(ids.length); // by the WebSocket: newer than any page
    this.loaded = 0;
    this.commands = new Map();
    this.changed();
  }

  changed() {
    this.stale = true;
    this.version = (this.version ?? 0) + 1;
  }

  put(requests, live) {
    for (const request of requests) {
      const index = request.id - this.first;
      if (index < 0 || index >= this.items.length || (!live && this.told[index])) continue;
      if (live) this.told[index] = 1;
      if (this.items[index] === undefined) {
        this.loaded += 1;
        const command = `${request.method.toUpperCase()} ${request.resource}`;
        this.commands.set(command, (this.commands.get(command) ?? 0) + 1);
      }
      this.items[index] = request;
    }
    this.changed();
  }

  get(id) {
    return this.items[id - this.first];
  }

  /** Load all of them in pages; `drawn` is called after each. Ends early when `wanted()` is false. */
  async load(jobId, drawn, wanted) {
    for (let offset = 0; offset < this.items.length; offset += PAGE) {
      const { data } = await call("GET", `/jobs/${jobId}/requests?limit=${PAGE}&offset=${offset}`);
      if (!wanted()) return;
      this.put(data, false);
      drawn();
    }
  }

  /** Take only why they are as they are: these were asked for, and may be older than what the WebSocket told. */
  putWhys(requests) {
    let changed = false;
    for (const { id, __request: fresh } of requests) {
      const known = this.get(id);
      if (known?.__request.status !== fresh.status || known.__request.why === fresh.why) continue;
      this.items[id - this.first] = { ...known, __request: { ...known.__request, why: fresh.why } };
      changed = true;
    }
    if (changed) this.changed();
  }

  /** The requests that fit the filter, by id. */
  fitting() {
    this.look();
    return this.found;
  }

  /** The same, in the order that was asked for. */
  shown() {
    this.look();
    return this.list;
  }

  look() {
    if (!this.stale) return;
    const { status } = this.filter;
    const wanted = this.filter.text.toLowerCase();
    this.found = [];
    for (const request of this.items) {
      if (request === undefined) continue;
      if (status.size && !status.has(request.__request.status)) continue;
      if (wanted && !this.fits(request, wanted)) continue;
      this.found.push(request);
    }
    this.list = this.sort.by ? this.ordered() : this.found;
    this.stale = false;
  }

  fits(request, wanted) {
    const inner = request.__request;
    if (inner.destination.toLowerCase().includes(wanted)) return true;
    return said(request).toLowerCase().includes(wanted);
  }

  ordered() {
    const key = {
      destination: (one) => one.__request.destination,
      status: (one) => WORST.indexOf(one.__request.status),
      attempts: (one) => one.__request.attempts,
      duration: (one) => took(one) ?? -1,
      result: said,
    }[this.sort.by];
    const sign = this.sort.down ? -1 : 1;
    const keys = new Map(this.found.map((one) => [one, key(one)]));
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    return [...this.found].sort((a, b) => sign * compare(keys.get(a), keys.get(b)) || a.id - b.id);
  }
}

/** What came back from a request, or what it waits for. */
export function said({ __request: inner }) {
  return inner.why ?? outcome(inner.result);
}

/** Milliseconds from sent to the end, null while there is none. */
export function took(request) {
  const { sentAt, finishedAt } = request.__request;
  return sentAt && finishedAt ? Date.parse(finishedAt) - Date.parse(sentAt) : null;
}
