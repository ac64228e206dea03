// The door: requests with the token, and WebSockets that come back by themselves.

const TOKEN = "puppetmaster-token";
const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 8000;

/** An answer that is an error of the API. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body?.message ?? `The answer was ${status}.`);
    this.status = status;
    this.errors = body?.errors ?? [];
  }
}

let askForToken = async () => "";
let asking = null;
let skewMs = 0;

/** `ask` shows a dialog and gives the token that was typed. */
export function onUnauthorized(ask) {
  askForToken = ask;
}

/** The time on the gateway's clock, as the answers tell it; a second is as exact as they are. */
export function now() {
  return Date.now() + skewMs;
}

/** One request: `{data, total}`. Throws ApiError, and TypeError when nobody answers. */
export async function call(method, path, body) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    const skew = Date.parse(answer.headers.get("Date")) - Date.now();
    skewMs = Math.abs(skew) > 2000 ? skew : 0;
    if (answer.status === 401) {
      // Another request may have asked and been told meanwhile.
      if (token === sessionStorage.getItem(TOKEN)) await newToken(token !== null);
      continue;
    }
    const data = await answer.json().catch(() => null);
    if (!answer.ok) throw new ApiError(answer.status, data);
    return { data, total: Number(answer.headers.get("X-Total-Count")) };
  }
}

function newToken(refused) {
  asking ??= askForToken(refused).then((token) => {
    sessionStorage.setItem(TOKEN, token);
    asking = null;
  });
  return asking;
}

/** A query string of what is not empty. */
export function queryOf(parameters) {
  const said = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return said.length ? `?${new URLSearchParams(said)}` : "";
}

/**
 * Follows a WebSocket. `opened()` is called each time it begins anew, after a loss or a gap too: whatever
 * is shown is to be loaded then. `frame(job)` gets what follows, `gone()` says that there is no such job.
 */
export class Live {
  constructor(path, { opened, frame, gone = () => {}, state }) {
    Object.assign(this, { path, opened, frame, gone, state });
    this.waitMs = FIRST_WAIT_MS;
    this.ended = false;
    this.connect();
  }

  async connect() {
    try {
      // Asks for the token where one is needed: a refused WebSocket cannot say why.
      this.state({ health: (await call("GET", "/system/puppetmaster")).data });
    } catch (error) {
      if (!(error instanceof ApiError)) return this.lost();
    }
    if (this.ended) return undefined;
    const token = sessionStorage.getItem(TOKEN);
    const url = new URL(this.path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, token ? ["puppetmaster", `token.${token}`] : ["puppetmaster"]);
    this.socket = socket;
    let seq = 0;
    socket.onopen = () => {
      this.waitMs = FIRST_WAIT_MS;
      this.state({ connected: true });
      this.opened();
    };
    socket.onmessage = (event) => {
      if (this.ended) return undefined;
      const job = JSON.parse(event.data);
      seq += 1;
      if (job.seq === seq) return this.frame(job);
      return socket.close(); // something is missing: begin anew
    };
    socket.onclose = (event) => {
      if (this.ended) return;
      if (event.code === 4404) this.gone();
      else this.lost();
    };
    return undefined;
  }

  lost() {
    if (this.ended) return;
    this.state({ connected: false });
    this.timer = setTimeout(() => this.connect(), this.waitMs * (0.75 + Math.random() / 2));
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    const { socket } = this;
    // Closed while it opens, a browser would complain.
    if (socket?.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
    else socket?.close();
  }
}
