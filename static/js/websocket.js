// @ts-check
/** @file One WebSocket for one session: events come, commands go. */

import { ConnectionLost, Refused } from "./failure.js";
import { newId } from "./identifier.js";

/** @typedef {import("./types.js").Ack} Ack */
/** @typedef {import("./types.js").Frame} Frame */

/** A browser cannot see WebSocket pings, so it asks for a sign of life itself, in milliseconds. */
const PING_EVERY_MS = 25_000;

/**
 * 4400 to 4999 mean "do not retry as you are"; all else, a clean close included, that the
 * session goes on without us and we should come back.
 * @param {number} code A WebSocket close code.
 * @returns {boolean}
 */
export function reconnectsAfter(code) {
  return code < 4400 || code > 4999;
}

/** @returns {string} The socket's address on the server that the page came from. */
function address() {
  const url = new URL("/v1/ws", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** @type {import("./types.js").Transport} */
export function openWebSocket({ sessionId, after, onUp, onFrame, onDown }) {
  const socket = new WebSocket(address());
  const subscription = newId();
  /** @type {Map<string, {resolve: (ack: Ack) => void, reject: (error: Error) => void}>} */
  const waiting = new Map();
  let open = true;
  let silent = false;

  const heartbeat = setInterval(() => {
    if (socket.readyState !== WebSocket.OPEN) return;
    if (silent) return end({ reconnect: true, reason: "The server fell silent." });
    silent = true;
    socket.send(JSON.stringify({ type: "ping", id: newId(), session_id: sessionId }));
  }, PING_EVERY_MS);

  function close() {
    open = false;
    clearInterval(heartbeat);
    socket.close();
    for (const { reject } of waiting.values()) reject(new ConnectionLost("Connection closed."));
    waiting.clear();
  }

  /** @param {import("./types.js").Down} down */
  function end(down) {
    if (!open) return;
    close();
    onDown(down);
  }

  /** @param {Frame} answer An ack or a nack. */
  function settle(answer) {
    const refusal = answer.type === "nack" ? (answer.error ?? {}) : null;
    if (answer.id === subscription) {
      if (refusal === null) return onUp();
      const forgetCursor = after !== null && String(refusal.code).startsWith("cursor");
      const reconnect = forgetCursor || refusal.retryable === true;
      return end({ reconnect, forgetCursor, reason: refusal.message });
    }
    const command = waiting.get(answer.id);
    waiting.delete(answer.id);
    if (refusal === null) command?.resolve({ ...answer, id: answer.id });
    else if (refusal.retryable) command?.reject(new ConnectionLost(refusal.message));
    else command?.reject(new Refused(refusal.message, refusal.code));
  }

  socket.onopen = () => {
    const position = after === null ? {} : { after };
    const subscribe = { type: "subscribe", id: subscription, session_id: sessionId, ...position };
    socket.send(JSON.stringify(subscribe));
  };
  socket.onmessage = ({ data }) => {
    if (!open) return;
    silent = false;
    /** @type {Frame} */
    const frame = JSON.parse(data);
    if (frame.type === "ack" || frame.type === "nack") settle(frame);
    else if (frame.type !== "hello" && frame.type !== "pong") onFrame(frame);
  };
  socket.onclose = ({ code, reason }) => {
    const words = reason || (code === 1006 ? "The connection was lost." : `Closed (${code}).`);
    end({ reconnect: reconnectsAfter(code), reason: words });
  };

  return {
    send: (command) =>
      new Promise((resolve, reject) => {
        if (socket.readyState !== WebSocket.OPEN || !open) {
          reject(new ConnectionLost("Not connected."));
          return;
        }
        waiting.set(command.id, { resolve, reject });
        socket.send(JSON.stringify({ ...command, session_id: sessionId }));
      }),
    close,
  };
}
