// A WebSocket that comes back by itself, and notices when nobody is at its other end. Where none is passed on, the
// gateway is asked instead.

import { ApiError, at, call, token } from "./api.js";
import { parse } from "./json.js";

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 8000;
/** While it is asked instead, a WebSocket is tried this often. */
const POLLING_WAIT_MS = 30_000;
const OPENING_MS = 5000;
const CHECK_MS = 3000;
const PATIENCE_MS = 4000;
const QUIET_MS = 10_000;
const MEANWHILE_MS = 1500;

/**
 * Follows a WebSocket. `opened()` is called each time it begins anew, after a loss or a gap too: whatever
 * is shown is to be loaded then. `frame(job)` gets what follows, `gone()` says that there is no such job,
 * `same()` whether the gateway still says what is shown. `polled()` is called now and then while no WebSocket
 * is passed on: whatever is shown is to be looked at. `state` hears of the connection and of its health.
 */
export class Live {
  constructor(path, { opened = () => {}, polled = opened, frame = () => {}, gone = () => {}, same = async () => true, state }) {
    Object.assign(this, { path, opened, polled, frame, gone, same, state });
    this.waitMs = FIRST_WAIT_MS;
    this.unopened = 0;
    this.polling = false;
    this.ended = false;
    this.socket = null;
    this.heard();
    this.checks = setInterval(() => this.check(), CHECK_MS);
    this.seen = () => this.check();
    document.addEventListener("visibilitychange", this.seen);
    this.connect();
  }

  heard() {
    this.heardAt = Date.now();
  }

  async connect() {
    // Asks for the token too, where one is needed: a refused WebSocket cannot say why.
    const answered = await this.ask();
    if (this.ended) return;
    if (!answered) {
      this.lost();
      return;
    }
    const known = token();
    const url = at(this.path);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, known ? ["puppetmaster", `token.${known}`] : ["puppetmaster"]);
    this.socket = socket;
    this.frameAt = performance.now();
    let seq = 0;
    const opening = setTimeout(() => socket === this.socket && this.refused(), OPENING_MS);
    socket.onopen = () => {
      clearTimeout(opening);
      this.waitMs = FIRST_WAIT_MS;
      this.unopened = 0;
      this.polling = false;
      this.opens = socket;
      this.heard();
      this.state({ connected: true, polling: false });
      this.opened();
    };
    socket.onmessage = (event) => {
      this.heard();
      this.frameAt = performance.now();
      const job = parse(event.data);
      seq += 1;
      if (job.seq === seq) this.frame(job);
      else this.again(); // something is missing
    };
    socket.onclose = (event) => {
      clearTimeout(opening);
      if (event.code === 4404) this.gone();
      else if (this.opens !== socket) this.refused();
      else this.lost();
    };
  }

  /** The gateway answers, and yet no WebSocket opens: the first time by chance, the second time nobody passes it on. */
  refused() {
    this.drop();
    this.unopened += 1;
    if (this.unopened < 2) {
      this.later();
      return;
    }
    this.polling = true;
    this.waitMs = POLLING_WAIT_MS;
    this.state({ connected: true, polling: true });
    this.polled();
    this.later();
  }

  /** Ask how the gateway is: whether it answers, and in time. */
  async ask() {
    const slow = () => this.ended || this.state({ slow: true });
    try {
      const { data } = await call("GET", "/system/puppetmaster", undefined, { patienceMs: PATIENCE_MS, slow });
      this.heard();
      if (!this.ended) this.state({ health: data, slow: false });
    } catch (error) {
      if (!(error instanceof ApiError)) return false;
      if (!this.ended) this.state({ trouble: error.message, slow: false });
    }
    return true;
  }

  /** A process that hangs, or a network that is gone, closes no WebSocket: so it is asked now and then. */
  async check() {
    const { socket, polling } = this;
    if (!(socket || polling) || this.checking || document.hidden) return;
    this.checking = true;
    const answered = await this.ask();
    const quiet = performance.now() - this.frameAt > QUIET_MS;
    if (this.ended || socket !== this.socket || polling !== this.polling) {
      // It was let go of meanwhile.
    } else if (!answered) this.lost();
    else if (polling) this.polled();
    else if (quiet) await this.compare(socket);
    this.checking = false;
  }

  /** It answers, but the WebSocket has been quiet: is that because nothing happened? */
  async compare(socket) {
    const before = this.frameAt = performance.now();
    if (await this.same().catch((error) => error.status !== 404)) return;
    await new Promise((done) => { setTimeout(done, MEANWHILE_MS); });
    if (socket === this.socket && before === this.frameAt) this.again();
  }

  lost() {
    this.drop();
    this.polling = false;
    this.waitMs = Math.min(this.waitMs, LONGEST_WAIT_MS);
    this.state({ connected: false, since: this.heardAt, slow: false });
    this.later();
  }

  again() {
    this.drop();
    this.later();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), this.waitMs * (0.75 + Math.random() / 2));
    if (!this.polling) this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
  }

  /** Let go of the WebSocket; it need not answer to that. */
  drop() {
    const { socket } = this;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    // Closed while it opens, a browser would complain.
    if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
    else socket.close();
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    clearInterval(this.checks);
    document.removeEventListener("visibilitychange", this.seen);
    this.drop();
  }
}

/** A view of which no frame says what is new: `load()` reads it after each gap, and every `againS` seconds while it is seen. */
export class Reread {
  follow(state, againS) {
    Object.assign(this, { seconds: 0, againS });
    this.live = new Live("/jobs/ws", { opened: () => this.load(), state });
  }

  tick() {
    this.seconds += 1;
    if (this.seconds >= this.againS && document.visibilityState === "visible") this.load();
  }

  end() {
    this.ended = true;
    this.live.end();
  }
}
