// @ts-check
/**
 * @file The way into this library for a page of one's own; `docs/clients.md` shows how. A page of
 * the server's own origin imports it as `/static/js/client.js`.
 */

import { Session } from "./session.js";
import { openSse } from "./sse.js";
import { openWebSocket } from "./websocket.js";

export { createSession, deleteSession, listAgents, listSessions } from "./api.js";
export { ConnectionLost, Refused } from "./failure.js";

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").TransportName} TransportName */

/** What a session needs of the browser. */
const browser = {
  transports: { sse: openSse, websocket: openWebSocket },
  random: Math.random,
  nowSeconds: () => performance.now() / 1000,
  after: (/** @type {() => void} */ act, /** @type {number} */ seconds) =>
    setTimeout(act, seconds * 1000),
  cancel: (/** @type {any} */ timer) => clearTimeout(timer),
  online: () => navigator.onLine,
};

/**
 * Open a session and stay with it until `close()`.
 * @param {string} sessionId
 * @param {object} [options]
 * @param {TransportName} [options.transport]
 * @param {any} [options.snapshot] Of a session that was just made: the stream starts right after it.
 * @param {(session: Session) => void} [options.onChange] The state or the connection changed.
 * @param {(frame: Frame) => void} [options.onFrame] An event was applied, or a control object came.
 * @returns {Session}
 */
export function openSession(sessionId, options = {}) {
  const { transport = "sse", snapshot, onChange = () => {}, onFrame = () => {} } = options;
  const around = { ...browser, onChange: () => onChange(session), onFrame };
  const session = new Session(sessionId, transport, around, snapshot);
  session.connect();
  return session;
}
