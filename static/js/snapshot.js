// @ts-check
/** @file A snapshot of the wire → the page's state. Pure. */

import {
  approvalKey,
  change,
  has,
  messageItem,
  messageKey,
  put,
  reasoningKey,
} from "./timeline.js";
import { toolItem, toolKey } from "./timeline.js";

/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./types.js").ViewState} ViewState */

/**
 * @param {any} message An entry of `messages`.
 * @returns {Item[]} The message and the tool calls that it made.
 */
function itemsOf(message) {
  const runId = message.run_id;
  const calls = (message.tool_calls ?? []).map((/** @type {any} */ call) =>
    toolItem({
      callId: call.call_id,
      name: call.name,
      runId,
      arguments: call.arguments,
      status: call.status,
      progress: call.progress ?? null,
      result: call.result ?? null,
      error: call.error ?? null,
    }),
  );
  const status = message.superseded ? "superseded" : message.incomplete ? "incomplete" : "complete";
  const item = messageItem({
    messageId: message.message_id,
    role: message.role,
    text: message.text,
    status,
    runId,
    agent: message.agent ?? null,
    turn: message.turn ?? null,
  });
  return item.text === "" && calls.length > 0 ? calls : [item, ...calls];
}

/**
 * @param {readonly Item[]} items
 * @param {any} open What is being streamed right now.
 * @param {string | null} runId The active run.
 * @returns {readonly Item[]}
 */
function withOpen(items, open, runId) {
  for (const { message_id: messageId, text, run_id } of open.reasoning ?? []) {
    const key = reasoningKey(messageId);
    items = put(items, {
      kind: "reasoning",
      key,
      messageId,
      text,
      status: "streaming",
      runId: run_id,
    });
  }
  for (const { message_id: messageId, role, text, run_id } of open.messages ?? []) {
    items = put(items, messageItem({ messageId, role, text, status: "streaming", runId: run_id }));
  }
  for (const call of open.tool_calls ?? []) {
    const { call_id: callId, name } = call;
    items = put(
      items,
      toolItem({ callId, name, runId, arguments: call.arguments, status: "writing" }),
    );
  }
  for (const callId of open.tools ?? []) {
    items = change(items, toolKey(runId, callId), () => ({
      status: /** @type {const} */ ("running"),
    }));
  }
  return items;
}

/**
 * @param {readonly Item[]} items
 * @param {any} approval One that waits for a human.
 * @returns {readonly Item[]}
 */
function withApproval(items, approval) {
  const callId = approval.call_id ?? null;
  const tool = approval.tool ?? null;
  const key = callId === null ? null : toolKey(approval.run_id, callId);
  if (key !== null && tool !== null && !has(items, key)) {
    const call = { callId, name: tool, runId: approval.run_id };
    items = put(items, toolItem({ ...call, arguments: approval.arguments ?? "" }));
  }
  return put(items, {
    kind: "approval",
    key: approvalKey(approval.approval_id),
    approvalId: approval.approval_id,
    callId,
    tool,
    arguments: approval.arguments ?? null,
    reason: approval.reason ?? null,
    decision: null,
    message: null,
    runId: approval.run_id,
  });
}

/**
 * The state at a snapshot: nothing of an earlier state is kept.
 * @param {any} snapshot As `GET /v1/sessions/{sid}` gives it.
 * @returns {ViewState}
 */
export function fromSnapshot(snapshot) {
  const { run } = snapshot;
  const spoken = withOpen(snapshot.messages.flatMap(itemsOf), snapshot.open, run?.run_id ?? null);
  const queue = snapshot.queue.map((/** @type {any} */ waiting) => ({
    run_id: waiting.run_id,
    command_id: waiting.command_id,
    text: waiting.message.content,
    message_id: waiting.message.message_id,
  }));
  const queued = new Set(queue.map((/** @type {any} */ { message_id: id }) => messageKey(id)));
  const items = snapshot.approvals.reduce(
    withApproval,
    spoken.filter(({ key }) => !queued.has(key)),
  );
  return {
    sessionId: snapshot.session_id,
    agent: snapshot.agent,
    status: snapshot.status,
    cursor: snapshot.cursor,
    seq: null,
    run: run === null ? null : { agent: null, error: null, ...run },
    items,
    queue,
    usage: snapshot.usage,
    activity: null,
    title: snapshot.metadata?.title ?? null,
  };
}
