// @ts-check
/** @file The part of the fold that concerns tool calls, tools and approvals. Pure. */

import { append, approvalKey, change, has, put, toolItem, toolKey } from "./timeline.js";

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
  const key = toolKey(runId, callId);
  /** @param {Partial<ToolItem>} changes */
  const become = (changes) => {
    const there = has(items, key) ? items : put(items, toolItem({ callId, name, runId }));
    return { items: change(there, key, () => changes), activity: null };
  };
  switch (event.type) {
    case "tool_call.started":
      return { items: append(items, toolItem({ callId, name, runId, status: "writing" })) };
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
      return put(items, {
        kind: "approval",
        key,
        approvalId: event.approval_id,
        callId: event.call_id ?? null,
        tool: event.tool ?? null,
        arguments: event.arguments ?? null,
        reason: event.reason ?? null,
        decision: null,
        message: null,
        runId: event.run_id ?? null,
      });
    case "approval.resolved":
      return change(items, key, () => ({
        decision: event.decision,
        message: event.message ?? null,
      }));
    default:
      return items;
  }
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
  for (const call of event.tool_calls ?? []) {
    if (has(items, toolKey(runId, call.id))) continue;
    const { name } = call;
    items = put(items, toolItem({ callId: call.id, name, runId, arguments: call.arguments }));
  }
  return items;
}
