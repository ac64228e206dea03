// The requests of one job: in an array by their ids, which follow each other, and what of them is shown.

import { call } from "./api.js";
import { FAILURES, outcome } from "./words.js";

const PAGE = 2000;
/** What a gateway with several requests shows: the first of these that one of them has. */
export const WORST = ["error", "timeout", "unknown", "sent", "pending", "canceled", "skipped", "resolved"];
/** What the table is sorted by, where somebody asks for another order than failures first. */
const KEYS = {
  created: (one) => one.id,
  destination: (one) => one.__request.destination,
  status: (one) => WORST.indexOf(one.__request.status),
  attempts: (one) => one.__request.attempts,
  duration: (one) => took(one) ?? -1,
  result: said,
};
/** What is known of a request: nothing, that it is filtered out, or that it fits, as a failure or as another one. */
const UNSEEN = 0;
const OUT = 1;
const FITS = 2;
const FAILED = 3;

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
    this.order = []; // places in `items` of all that are loaded, as they were sorted last
    this.commands = new Map();
    this.changed();
  }

  /** The filter or the order is another one: all are looked at anew. */
  changed() {
    this.fit = new Uint8Array(this.items.length);
    this.keys = new Array(this.items.length);
    this.touched();
  }

  touched() {
    this.stale = true;
    this.version = (this.version ?? 0) + 1;
  }

  set(index, request) {
    this.items[index] = request;
    this.fit[index] = UNSEEN;
    this.keys[index] = undefined;
  }

  put(requests, live) {
    for (const request of requests) {
      const index = request.id - this.first;
      if (index < 0 || index >= this.items.length || (!live && this.told[index])) continue;
      if (live) this.told[index] = 1;
      if (this.items[index] === undefined) {
        this.loaded += 1;
        this.order.push(index);
        const command = `${request.method.toUpperCase()} ${request.resource}`;
        this.commands.set(command, (this.commands.get(command) ?? 0) + 1);
      }
      this.set(index, request);
    }
    this.touched();
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
      this.set(id - this.first, { ...known, __request: { ...known.__request, why: fresh.why } });
      changed = true;
    }
    if (changed) this.touched();
  }

  /** The requests that fit the filter, by id. */
  fitting() {
    this.look();
    return this.found;
  }

  /** The same, in the order that was asked for. */
  shown() {
    this.look();
    this.list ??= this.sort.by ? this.ordered() : this.failuresFirst();
    return this.list;
  }

  look() {
    if (!this.stale) return;
    const { items, fit } = this;
    const wanted = this.filter.text.toLowerCase();
    this.found = [];
    for (let index = 0; index < items.length; index += 1) {
      if (items[index] === undefined) continue;
      if (fit[index] === UNSEEN) fit[index] = this.fits(items[index], wanted);
      if (fit[index] >= FITS) this.found.push(items[index]);
    }
    this.list = null; // sorted only where somebody wants to see it
    this.stale = false;
  }

  fits(request, wanted) {
    const { status } = this.filter;
    const inner = request.__request;
    if (status.size && !status.has(inner.status)) return OUT;
    if (wanted && !inner.destination.toLowerCase().includes(wanted) && !said(request).toLowerCase().includes(wanted)) return OUT;
    return FAILURES.includes(inner.status) ? FAILED : FITS;
  }

  /** All else as it was created; `ahead` is how many failures there are. */
  failuresFirst() {
    const failed = [];
    const rest = [];
    for (const request of this.found) (this.fit[request.id - this.first] === FAILED ? failed : rest).push(request);
    this.ahead = failed.length;
    return failed.concat(rest);
  }

  /** Few change at a time: the others are in their order already, and sorting them again is quick. */
  ordered() {
    const { items, fit, keys, order } = this;
    const key = KEYS[this.sort.by];
    const sign = this.sort.down ? -1 : 1;
    this.ahead = 0;
    for (const index of order) keys[index] ??= key(items[index]);
    order.sort((a, b) => (keys[a] < keys[b] ? -sign : keys[a] > keys[b] ? sign : a - b));
    return order.filter((index) => fit[index] >= FITS).map((index) => items[index]);
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
