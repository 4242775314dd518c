// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { reduce } from "../../static/js/reduce.js";
import { fromSnapshot } from "../../static/js/snapshot.js";
import { event, shortRun, snapshot, texts } from "./support.js";

const run = { run_id: "run_1", status: "running", attempt: 1, agent: "echo" };
const hello = { message_id: "msg_u", role: "user", text: "hello", run_id: "run_1" };

test("a snapshot in mid-answer and the rest of the log give what the whole log gives", () => {
  const open = {
    ...snapshot().open,
    messages: [{ message_id: "msg_a", run_id: "run_1", role: "assistant", text: "one two " }],
  };
  const joined = fromSnapshot(
    snapshot("running", { run, messages: [hello], open, cursor: "e.5.tag" }),
  );
  const state = shortRun().slice(5).reduce(reduce, joined);
  assert.deepEqual(texts(state), ["hello", "one two three"]);
  assert.equal(state.cursor, "e.8.tag");
});

test("tool calls follow the message that made them; a silent step shows only its calls", () => {
  const call = { call_id: "call_1", name: "look", arguments: "{}", status: "completed", result: 7 };
  const messages = [
    hello,
    { message_id: "m2", role: "assistant", text: "", run_id: "run_1", tool_calls: [call] },
  ];
  const state = fromSnapshot(snapshot("idle", { run, messages }));
  assert.deepEqual(
    state.items.map(({ kind }) => kind),
    ["message", "tool"],
  );
  assert.deepEqual(/** @type {any} */ (state.items[1]).result, 7);
});

test("a tool that runs at the snapshot goes on with the events after it", () => {
  const call = { call_id: "call_1", name: "look", arguments: "{}", status: "ready" };
  const messages = [
    { message_id: "m2", role: "assistant", text: "", run_id: "run_1", tool_calls: [call] },
  ];
  const open = { ...snapshot().open, tools: ["call_1"] };
  const joined = fromSnapshot(snapshot("running", { run, messages, open }));
  assert.equal(/** @type {any} */ (joined.items[0]).status, "running");
  const done = reduce(
    joined,
    event(9, "tool.completed", { call_id: "call_1", name: "look", result: 1, duration_ms: 2 }),
  );
  assert.equal(done.items.length, 1);
  assert.equal(/** @type {any} */ (done.items[0]).status, "completed");
});

test("a snapshot between a call's arguments and the end of its step does not lose the call", () => {
  const joined = fromSnapshot(snapshot("running", { run, messages: [hello] }));
  const call = { id: "call_1", name: "look", arguments: '{"a":1}' };
  const state = reduce(joined, event(9, "model.completed", { turn: 1, tool_calls: [call] }));
  assert.deepEqual(
    state.items.map(({ kind }) => kind),
    ["message", "tool"],
  );
});

test("an approval that waits is shown with the call it is about", () => {
  const approvals = [
    {
      approval_id: "apr_1",
      run_id: "run_1",
      call_id: "call_1",
      tool: "delete_file",
      arguments: "{}",
    },
  ];
  const state = fromSnapshot(
    snapshot("interrupted", { run: { ...run, status: "interrupted" }, approvals }),
  );
  assert.deepEqual(
    state.items.map(({ kind }) => kind),
    ["tool", "approval"],
  );
});

test("what is stopped and what is said anew stays marked", () => {
  const messages = [
    { ...hello, message_id: "a", role: "assistant", incomplete: true },
    { ...hello, message_id: "b", role: "assistant", incomplete: true, superseded: true },
  ];
  const state = fromSnapshot(snapshot("idle", { messages }));
  assert.deepEqual(
    state.items.map((item) => /** @type {any} */ (item).status),
    ["incomplete", "superseded"],
  );
});
