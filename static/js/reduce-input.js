// @ts-check
/** @file The part of the fold that concerns what comes from outside: inputs and history. Pure. */

import { append, callKey, change, messageItem, messageKey, put, toolItem } from "./timeline.js";

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./types.js").ToolItem} ToolItem */
/** @typedef {import("./types.js").ViewState} ViewState */

/** What became of a call that was left when the conversation went on without it. */
const UNANSWERED = { code: "no_result", message: "the call has no result; nobody answered it" };

/**
 * @param {ViewState} state
 * @param {Frame} event One of `input.*` and `history.*`.
 * @returns {Partial<ViewState>}
 */
export function reduceInput({ items, queue, run, agent }, event) {
  const runId = event.run_id ?? null;
  const { message } = event;
  const withoutThis = queue.filter((waiting) => waiting.command_id !== event.command_id);
  switch (event.type) {
    case "input.accepted": {
      const idle = run === null || !["queued", "running", "interrupted"].includes(run.status);
      const queued = { agent: event.agent ?? agent, status: "queued", attempt: 0 };
      const waits = { run_id: event.run_id ?? "", ...queued, stopping: false, error: null };
      return {
        items: heard(items, message, runId),
        queue: withoutThis,
        ...(idle ? { run: waits } : {}),
      };
    }
    case "input.queued": {
      const waiting = { run_id: runId ?? "", command_id: event.command_id };
      const said = { text: message.content, message_id: message.message_id };
      const added = { ...waiting, ...said, policy: event.policy ?? "enqueue" };
      const itsKey = messageKey(message.message_id);
      return { items: items.filter(({ key }) => key !== itsKey), queue: [...withoutThis, added] };
    }
    // What was started is said by the `input.accepted` that follows.
    case "input.dequeued":
      return { queue: withoutThis };
    case "input.reordered":
      return { queue: inOrder(queue, event.run_ids) };
    case "input.steered":
      return { items: heard(items, message, runId) };
    case "history.rolled_back":
      return { items: without(items, event.message_ids) };
    default:
      return {};
  }
}

/**
 * What the end of a run means to those that wait: none is for its next step any more.
 * @param {ViewState["queue"]} queue
 * @returns {ViewState["queue"]}
 */
export function afterRun(queue) {
  return queue.map((waiting) => ({ ...waiting, policy: "enqueue" }));
}

/**
 * @param {ViewState["queue"]} queue
 * @param {readonly string[]} runIds All that wait, the next one first.
 * @returns {ViewState["queue"]}
 */
function inOrder(queue, runIds) {
  return queue.toSorted((a, b) => runIds.indexOf(a.run_id) - runIds.indexOf(b.run_id));
}

/**
 * What was said before the session began, elsewhere.
 * @param {readonly any[]} history Messages, each with an id.
 * @returns {readonly Item[]}
 */
export function imported(history) {
  /** @type {readonly Item[]} */
  let items = [];
  for (const message of history) {
    const { role, content: text = "", tool_calls: calls = [], message_id: messageId } = message;
    if (role === "tool") {
      items = answered(items, message);
      continue;
    }
    if (text !== "" || calls.length === 0) {
      items = append(items, messageItem({ messageId, role, text }));
    }
    for (const { id: callId, name, arguments: args } of calls) {
      items = append(items, toolItem({ callId, name, arguments: args, messageId, runId: null }));
    }
  }
  return items;
}

/**
 * @param {readonly Item[]} items
 * @param {any} message What the user said; or what came of a call that the conversation ends with.
 * @param {string | null} runId
 * @returns {readonly Item[]}
 */
function heard(items, message, runId) {
  if (message.role !== "tool") {
    const { message_id: messageId, content: text } = message;
    return put(items, messageItem({ messageId, role: "user", text, runId }));
  }
  const key = callKey(items, { runId: null, callId: message.tool_call_id, path: null });
  const made = /** @type {ToolItem | undefined} */ (items.find((item) => item.key === key));
  return answered(items, message).map((item) =>
    item.kind === "tool" && item.messageId === made?.messageId && item.status === "ready"
      ? { ...item, status: /** @type {const} */ ("failed"), error: UNANSWERED }
      : item,
  );
}

/**
 * @param {readonly Item[]} items
 * @param {any} message Of role `tool`.
 * @returns {readonly Item[]}
 */
function answered(items, { tool_call_id: callId, content: result }) {
  const key = callKey(items, { runId: null, callId, path: null });
  return change(items, key, () => ({ status: /** @type {const} */ ("completed"), result }));
}

/**
 * @param {readonly Item[]} items
 * @param {readonly string[]} messageIds Messages that no longer count, from one to the last.
 * @returns {readonly Item[]} What came before them.
 */
function without(items, messageIds) {
  const dropped = new Set(messageIds);
  const first = items.findIndex((item) => "messageId" in item && dropped.has(item.messageId ?? ""));
  return first === -1 ? items : items.slice(0, first);
}
