// @ts-check
/** @file One WebSocket for one session: events come, commands go. */

import { afterClose, afterNack } from "./endings.js";
import { ConnectionLost, Refused } from "./failure.js";
import { newId } from "./identifier.js";

/** @typedef {import("./types.js").Ack} Ack */
/** @typedef {import("./types.js").Frame} Frame */

/** @returns {string} The socket's address on the server that the page came from. */
function address() {
  const url = new URL("/v1/ws", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** @type {import("./types.js").Transport} */
export function openWebSocket({ sessionId, after, onUp, onAlive, onFrame, onDown }) {
  const socket = new WebSocket(address());
  const subscription = newId();
  /** @type {Map<string, {resolve: (ack: Ack) => void, reject: (error: Error) => void}>} */
  const waiting = new Map();
  /** @type {number | undefined} */
  let heartbeatSeconds;
  let open = true;

  function close() {
    open = false;
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
      if (refusal === null) return onUp(heartbeatSeconds);
      return end(afterNack(refusal, after !== null));
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
    onAlive();
    /** @type {Frame} */
    const frame = JSON.parse(data);
    if (frame.type === "ack" || frame.type === "nack") settle(frame);
    else if (frame.type === "hello") heartbeatSeconds = frame.heartbeat_s;
    else if (frame.type !== "pong") onFrame(frame);
  };
  socket.onclose = ({ code, reason }) => end(afterClose(code, reason));

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
    probe: () => {
      // A browser cannot see WebSocket pings, so it asks for a sign of life itself.
      if (socket.readyState !== WebSocket.OPEN) return;
      socket.send(JSON.stringify({ type: "ping", id: newId(), session_id: sessionId }));
    },
    close,
  };
}
