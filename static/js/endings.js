// @ts-check
/**
 * @file How a connection can end, and what that means for whoever was on it. Pure.
 *
 * PROTOCOL.md, sections 5 to 7. A session goes on without its readers, so an end means "come back"
 * unless the server says that coming back as we are is useless.
 */

import { passes } from "./failure.js";

/** @typedef {import("./types.js").Down} Down */

/** @type {Record<number, string>} */
const CLOSE_WORDS = {
  4401: "not_permitted",
  4403: "not_permitted",
  4404: "session_unknown",
  4410: "session_gone",
};

/** @type {Down} It broke, fell silent, or ended without a word. */
export const BROKEN = { reconnect: true, reason: "The connection was lost." };

/** @type {Down} The session is closed, and all of it was read. */
export const FINISHED = { reconnect: false, reason: "The session is closed." };

/**
 * A WebSocket was closed. 4400 to 4999 mean "do not retry as you are"; all else, a clean close
 * included, that the session goes on without us.
 * @param {number} code
 * @param {string} [words] What the server said.
 * @returns {Down}
 */
export function afterClose(code, words) {
  const reason = words || (code === 1006 ? BROKEN.reason : `Closed (${code}).`);
  if (code < 4400 || code > 4999) return { reconnect: true, reason };
  return { reconnect: false, reason, code: CLOSE_WORDS[code] ?? `closed_${code}` };
}

/**
 * HTTP answered with something else than a stream.
 * @param {{status: number, code?: string, message?: string, retryAfterSeconds?: number | null}} answer
 * @param {boolean} withCursor Whether it was asked with a cursor.
 * @returns {Down}
 */
export function afterAnswer({ status, code, message, retryAfterSeconds }, withCursor) {
  if (status === 204) return FINISHED;
  const reason = message || `The server answered ${status}.`;
  if (passes(status) || status >= 500) {
    return { reconnect: true, reason, floorSeconds: retryAfterSeconds ?? 0 };
  }
  if (status === 400 && withCursor) return { reconnect: true, reason, forgetCursor: true };
  const word = code || (status === 410 ? "session_gone" : `http_${status}`);
  return { reconnect: false, reason, code: word };
}

/**
 * A subscription was refused.
 * @param {{code?: string, message?: string, retryable?: boolean}} error
 * @param {boolean} withCursor Whether it was asked for with a cursor.
 * @returns {Down}
 */
export function afterNack({ code = "refused", message, retryable = false }, withCursor) {
  const reason = message || `The server refused (${code}).`;
  if (withCursor && code.startsWith("cursor")) {
    return { reconnect: true, reason, forgetCursor: true };
  }
  return retryable ? { reconnect: true, reason } : { reconnect: false, reason, code };
}

/**
 * The server said `stream.closing`; without `retry_ms` there is nothing to come back to.
 * @param {{reason?: string, retry_ms?: number}} closing
 * @returns {Down}
 */
export function afterClosing({ reason = "", retry_ms: retryMs }) {
  if (reason === "closed") return FINISHED;
  if (reason === "deleted") {
    return { reconnect: false, reason: "The session was deleted.", code: "session_gone" };
  }
  const words = `The server ended the stream (${reason}).`;
  if (retryMs === undefined && reason !== "shutdown") {
    return { reconnect: false, reason: words, code: reason };
  }
  return { reconnect: true, reason: words, floorSeconds: (retryMs ?? 0) / 1000 };
}
