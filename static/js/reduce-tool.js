// @ts-check
/** @file The part of the fold that concerns tool calls, tools and approvals. Pure. */

import { nested } from "./path.js";
import { held } from "./reduce-graph.js";
import { append, approvalKey, callKey, change, has, put } from "./timeline.js";
import { toolItem, toolKey } from "./timeline.js";

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").ToolItem} ToolItem */
/** @typedef {import("./types.js").ViewState} ViewState */

/**
 * @param {ViewState} state
 * @param {Frame} event One of `tool_call.*`, `tool.*` and `approval.*`.
 * @returns {Partial<ViewState>}
 */
export function reduceTool(state, event) {
  if (event.type.startsWith("approval.")) return { items: reduceApproval(state, event) };
  const { items } = state;
  const { call_id: callId, name, run_id: runId = null } = event;
  const path = nested(event.path);
  const key = callKey(items, { runId, callId, path });
  const known = { callId, name, runId, path, messageId: event.message_id ?? null };
  /** @param {Partial<ToolItem>} changes */
  const become = (changes) => {
    const there = has(items, key) ? items : put(items, toolItem(known));
    return { items: change(there, key, () => changes), activity: null };
  };
  switch (event.type) {
    case "tool_call.started":
      return { items: append(items, toolItem({ ...known, status: "writing" })) };
    case "tool_call.delta":
      return {
        items: change(items, key, (/** @type {ToolItem} */ item) => ({
          arguments: item.arguments + event.arguments,
        })),
      };
    case "tool_call.ready":
      return become({ status: "ready", arguments: event.arguments });
    case "tool.started":
      return become({ status: "running", arguments: event.arguments, error: null });
    case "tool.progress":
      return { items: change(items, key, () => ({ progress: event.data })) };
    case "tool.completed":
      return become({ status: "completed", result: event.result, durationMs: event.duration_ms });
    case "tool.failed":
      return event.will_retry ? {} : become({ status: "failed", error: event.error });
    case "tool.unknown_outcome":
      return become({ status: "unknown" });
    default:
      return {};
  }
}

/**
 * @param {ViewState} state
 * @param {Frame} event
 * @returns {ViewState["items"]}
 */
function reduceApproval({ items }, event) {
  const key = approvalKey(event.approval_id);
  switch (event.type) {
    case "approval.requested":
      return put(held(items, event), approvalItem(event));
    case "approval.resolved":
      return change(items, key, () => ({
        decision: event.decision,
        message: event.message ?? null,
        result: event.result ?? null,
      }));
    default:
      return items;
  }
}

/**
 * @param {any} asked An `approval.requested`, or an approval of a snapshot.
 * @returns {import("./types.js").ApprovalItem}
 */
export function approvalItem(asked) {
  return {
    kind: "approval",
    key: approvalKey(asked.approval_id),
    approvalId: asked.approval_id,
    callId: asked.call_id ?? null,
    node: asked.node ?? null,
    tool: asked.tool ?? null,
    arguments: asked.arguments ?? null,
    reason: asked.reason ?? null,
    wants: asked.wants ?? null,
    decision: null,
    message: null,
    result: null,
    runId: asked.run_id ?? null,
    path: nested(asked.path),
  };
}

/**
 * A snapshot taken between a call's last argument and the end of the model step does not have the
 * call; the end of the step names it again.
 * @param {ViewState["items"]} items
 * @param {Frame} event A `model.completed`.
 * @returns {ViewState["items"]}
 */
export function withCalls(items, event) {
  const runId = event.run_id ?? null;
  const path = nested(event.path);
  for (const call of event.tool_calls ?? []) {
    const key = toolKey(runId, call.id, path);
    if (!has(items, key)) {
      const known = { callId: call.id, name: call.name, runId, path };
      items = put(items, toolItem({ ...known, arguments: call.arguments }));
    }
    items = change(items, key, () => ({ messageId: event.message_id ?? null }));
  }
  return items;
}
