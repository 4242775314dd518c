// @ts-check
/**
 * @file (view state, event) → view state. Pure.
 *
 * The state is the fold of the log up to its cursor, so an event is applied once and in order:
 * one that was seen changes nothing, and one that leaves a hole is for the caller to fetch again.
 */

import { nested } from "./path.js";
import { reduceGraphs, reduceNode, unfinished } from "./reduce-graph.js";
import { afterRun, imported, reduceInput } from "./reduce-input.js";
import { reduceTool, withCalls } from "./reduce-tool.js";
import { append, change, has, messageItem, messageKey, put, reasoningKey } from "./timeline.js";

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./types.js").Run} Run */
/** @typedef {import("./types.js").Usage} Usage */
/** @typedef {import("./types.js").ViewState} ViewState */
/** @typedef {import("./types.js").MessageItem} MessageItem */
/** @typedef {import("./types.js").ReasoningItem} ReasoningItem */

/**
 * Where an event stands against a state.
 * @param {ViewState} state
 * @param {number} seq
 * @returns {"next" | "seen" | "gap"}
 */
export function placeOf(state, seq) {
  if (state.seq === null || seq === state.seq + 1) return "next";
  return seq <= state.seq ? "seen" : "gap";
}

/**
 * @param {ViewState} state
 * @param {Frame} event
 * @returns {ViewState} The same object if the event was seen before.
 * @throws {RangeError} If events are missing between the state and this one.
 */
export function reduce(state, event) {
  const seq = /** @type {number} */ (event.seq);
  const place = placeOf(state, seq);
  if (place === "seen") return state;
  if (place === "gap") throw new RangeError(`event ${seq} after ${state.seq}: some are missing`);
  const cursor = event.cursor ?? state.cursor;
  return { ...state, ...changesBy(state, event), seq, cursor };
}

/**
 * @param {ViewState} state
 * @param {Frame} event
 * @returns {Partial<ViewState>}
 */
function changesBy(state, event) {
  const [subject] = event.type.split(".", 1);
  switch (subject) {
    case "session":
      if (event.type === "session.created") return { items: imported(event.history ?? []) };
      return event.type === "session.closed" ? { status: "closed", activity: null } : {};
    case "input":
    case "history":
      return reduceInput(state, event);
    case "run":
      return reduceRun(state, event);
    case "message":
      return reduceMessage(state, event);
    case "reasoning":
      return { items: reduceReasoning(state, event) };
    case "tool_call":
    case "tool":
    case "approval":
      return reduceTool(state, event);
    case "node":
      return reduceNode(state, event);
    default:
      return reduceProgress(state, event);
  }
}

/** What a run event makes of the run, and of the session. */
const RUN_STATUS = new Map([
  ["run.started", ["running", "running"]],
  ["run.resumed", ["running", "running"]],
  ["run.attempt_started", ["running", "running"]],
  ["run.interrupted", ["interrupted", "interrupted"]],
  ["run.completed", ["completed", "idle"]],
  ["run.failed", ["failed", "idle"]],
  ["run.cancelled", ["cancelled", "idle"]],
]);

/**
 * @param {ViewState} state
 * @param {Frame} event
 * @returns {Partial<ViewState>}
 */
function reduceRun(state, event) {
  if (event.type === "run.stop_requested" && state.run?.run_id === event.run_id) {
    return { run: { .../** @type {Run} */ (state.run), stopping: true } };
  }
  const statuses = RUN_STATUS.get(event.type);
  if (statuses === undefined) return {};
  const known = state.run?.run_id === event.run_id ? state.run : null;
  const begins = statuses[1] === "running";
  // A queued run that is cancelled before it began says nothing of the active one.
  if (known === null && !begins) return {};
  /** @type {Run} */
  const run = {
    run_id: event.run_id ?? "",
    status: statuses[0],
    attempt: event.attempt ?? known?.attempt ?? 1,
    agent: event.agent ?? event.graph ?? known?.agent ?? state.agent,
    stopping: begins && (known?.stopping ?? false),
    error: event.error ?? null,
  };
  const items = state.items.map((item) =>
    saidAnew(state.items, item, event) ? superseded(item) : item,
  );
  const queue = statuses[1] === "idle" ? afterRun(state.queue) : state.queue;
  return { run, queue, items: reduceGraphs(items, event), status: statuses[1], activity: null };
}

/**
 * What a run that goes on from a stopped one, or that was taken over, says once more. Of its own
 * agent: the steps that were not finished; below it: what is not final, if no finished node said it.
 * @param {readonly Item[]} items
 * @param {Item} item
 * @param {Frame} event
 * @returns {item is MessageItem}
 */
function saidAnew(items, item, event) {
  if (item.kind !== "message" || item.role === "user") return false;
  if (event.type === "run.started") {
    const parent = event.parent_run_id ?? null;
    return parent !== null && item.runId === parent && item.status === "incomplete";
  }
  if (event.type !== "run.attempt_started" || item.runId !== event.run_id) return false;
  if (item.path !== null) return !item.final && unfinished(items, item.runId, item.path);
  // What a graph says itself has no turn; it is said at the very end.
  return item.turn === null ? !item.final : item.turn > event.from_step;
}

/**
 * @param {MessageItem} item
 * @returns {MessageItem}
 */
function superseded(item) {
  return { ...item, status: "superseded" };
}

/**
 * @param {ViewState} state
 * @param {Frame} event
 * @returns {Partial<ViewState>}
 */
function reduceMessage({ items, run }, event) {
  const { message_id: messageId, run_id: runId = null } = event;
  switch (event.type) {
    case "message.started": {
      const { role, turn = null } = event;
      const agent = event.agent ?? (nested(event.path) === null ? (run?.agent ?? null) : null);
      const said = { messageId, role, agent, turn, runId, path: nested(event.path) };
      const item = messageItem({ ...said, status: "streaming", final: false });
      return { items: append(items, item), activity: null };
    }
    case "message.delta":
      return {
        items: change(items, messageKey(messageId), (/** @type {MessageItem} */ item) => ({
          text: item.text + event.text,
        })),
      };
    case "message.completed": {
      const ended = event.incomplete ? "incomplete" : "complete";
      const status = event.superseded ? "superseded" : ended;
      const known = { messageId, role: "assistant", runId, path: nested(event.path) };
      const there = has(items, messageKey(messageId)) ? items : put(items, messageItem(known));
      const completed = { text: event.text, status: /** @type {MessageItem["status"]} */ (status) };
      return { items: change(there, messageKey(messageId), () => completed) };
    }
    default:
      return {};
  }
}

/**
 * @param {ViewState} state
 * @param {Frame} event
 * @returns {ViewState["items"]}
 */
function reduceReasoning({ items }, event) {
  const { message_id: messageId, run_id: runId = null } = event;
  const key = reasoningKey(messageId);
  switch (event.type) {
    case "reasoning.started":
      return append(items, {
        kind: "reasoning",
        key,
        messageId,
        text: "",
        status: "streaming",
        runId,
        path: nested(event.path),
      });
    case "reasoning.delta":
      return change(items, key, (/** @type {ReasoningItem} */ item) => ({
        text: item.text + event.text,
      }));
    case "reasoning.completed":
      return change(items, key, () => ({
        text: event.text,
        status: /** @type {const} */ ("complete"),
      }));
    default:
      return items;
  }
}

/**
 * Tokens used, and one line on what is going on. Unknown types change nothing.
 * @param {ViewState} state
 * @param {Frame} event
 * @returns {Partial<ViewState>}
 */
function reduceProgress(state, event) {
  switch (event.type) {
    case "model.started":
      return { activity: "Thinking" };
    case "model.completed":
      return {
        items: withCalls(finished(state.items, event), event),
        usage: event.usage ? sum(state.usage, event.usage) : state.usage,
      };
    case "model.retrying":
      return { activity: `The model failed; next try in ${(event.delay_ms / 1000).toFixed(1)} s` };
    case "agent.handoff":
      return { activity: `Handed over to ${event.target}` };
    default:
      return {};
  }
}

/**
 * @param {readonly Item[]} items
 * @param {Frame} event A `model.completed`.
 * @returns {readonly Item[]}
 */
function finished(items, { message_id: messageId }) {
  return change(items, messageKey(messageId), () => ({ final: true }));
}

/**
 * @param {Usage | null} before
 * @param {Usage} more
 * @returns {Usage}
 */
function sum(before, more) {
  return {
    prompt_tokens: (before?.prompt_tokens ?? 0) + more.prompt_tokens,
    completion_tokens: (before?.completion_tokens ?? 0) + more.completion_tokens,
    total_tokens: (before?.total_tokens ?? 0) + more.total_tokens,
  };
}
