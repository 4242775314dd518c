// @ts-check
/** @file The conversation as an ordered list of immutable items. Pure. */

/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./types.js").ToolItem} ToolItem */
/** @typedef {import("./types.js").MessageItem} MessageItem */
/** @typedef {readonly Item[]} Items */

/**
 * @param {string} messageId
 * @returns {string}
 */
export const messageKey = (messageId) => `message:${messageId}`;

/**
 * @param {string} messageId
 * @returns {string}
 */
export const reasoningKey = (messageId) => `reasoning:${messageId}`;

/**
 * A call's id is the model's own and may come again: in a later run, or below another path.
 * @param {string | null} runId
 * @param {string} callId
 * @param {import("./path.js").Path | null} path Of the agent that calls; null for the run's own.
 * @returns {string}
 */
export const toolKey = (runId, callId, path) =>
  `tool:${runId}:${path === null ? "" : `${path.join("/")}:`}${callId}`;

/**
 * @param {string | null} runId
 * @param {import("./path.js").Path} path Of the outermost graph.
 * @returns {string}
 */
export const graphKey = (runId, path) => `graph:${runId}:${path.join("/")}`;

/**
 * @param {string} approvalId
 * @returns {string}
 */
export const approvalKey = (approvalId) => `approval:${approvalId}`;

/**
 * @param {Partial<MessageItem> & {messageId: string, role: string}} known
 * @returns {MessageItem}
 */
export function messageItem(known) {
  return {
    kind: "message",
    key: messageKey(known.messageId),
    text: "",
    status: "complete",
    runId: null,
    agent: null,
    turn: null,
    path: null,
    final: true,
    ...known,
  };
}

/**
 * @param {Partial<ToolItem> & {callId: string, name: string, runId: string | null}} known
 * @returns {ToolItem}
 */
export function toolItem(known) {
  return {
    kind: "tool",
    key: toolKey(known.runId, known.callId, known.path ?? null),
    messageId: null,
    path: null,
    arguments: "",
    status: "ready",
    progress: null,
    result: null,
    error: null,
    durationMs: null,
    ...known,
  };
}

/**
 * @param {Items} items
 * @param {string} key
 * @returns {boolean}
 */
export function has(items, key) {
  return find(items, key) !== -1;
}

/**
 * A run that goes on from another one makes the calls that were left, under its own id.
 * @param {Items} items
 * @param {{runId: string | null, callId: string, path: import("./path.js").Path | null}} call
 * @returns {string} The key of this run's call, or else of the newest one of that id.
 */
export function callKey(items, { runId, callId, path }) {
  const key = toolKey(runId, callId, path);
  if (has(items, key)) return key;
  const place = path?.join("/");
  const isIt = (/** @type {Item} */ item) =>
    item.kind === "tool" && item.callId === callId && item.path?.join("/") === place;
  return items.findLast(isIt)?.key ?? key;
}

/**
 * Newest first, because events are nearly always about the newest items.
 * @param {Items} items
 * @param {string} key
 * @returns {number} Where it is, or -1.
 */
function find(items, key) {
  for (let index = items.length - 1; index >= 0; index -= 1) {
    if (items[index].key === key) return index;
  }
  return -1;
}

/**
 * Put an item in the place of the one with its key, or at the end.
 * @param {Items} items
 * @param {Item} item
 * @returns {Items}
 */
export function put(items, item) {
  const index = find(items, item.key);
  if (index === -1) return [...items, item];
  return items.with(index, item);
}

/**
 * Put an item at the end, and take the one with its key out: it happens anew.
 * @param {Items} items
 * @param {Item} item
 * @returns {Items}
 */
export function append(items, item) {
  return [...items.filter(({ key }) => key !== item.key), item];
}

/**
 * Change one item; nothing if it is not there.
 * @template {Item} T
 * @param {Items} items
 * @param {string} key
 * @param {(item: T) => Partial<T>} changes
 * @returns {Items}
 */
export function change(items, key, changes) {
  const index = find(items, key);
  if (index === -1) return items;
  const item = /** @type {T} */ (items[index]);
  return items.with(index, /** @type {Item} */ ({ ...item, ...changes(item) }));
}
