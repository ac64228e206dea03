// Made by schema/generate.py from the description of the API.

export const METHODS = ["get", "post", "put", "delete"];
export const DONE = ["resolved", "error", "timeout", "unknown", "canceled", "skipped"];
export const OPEN = ["pending", "sent"];
export const FAILURES = ["error", "timeout", "unknown"];
export const JOB_STATUSES = ["pending", "dispatching", "paused", "resolved", "canceled", "aborted", "timeout"];
export const SOURCES = {"device": "the device", "remote": "the remote bundle", "controller": "the controller", "puppetmaster": "puppetmaster itself"};
export const WAYS = {"remote": "through the remote bundle", "direct": "directly to the gateway"};
