// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { placeOf, reduce } from "../../static/js/reduce.js";
import { fromSnapshot } from "../../static/js/snapshot.js";
import { event, shortRun, snapshot, texts } from "./support.js";

/** @typedef {import("../../static/js/types.js").ViewState} ViewState */

const empty = () => fromSnapshot(snapshot());
/**
 * @param {any[]} events
 * @param {ViewState} [start]
 */
const fold = (events, start = empty()) => events.reduce(reduce, start);
/**
 * @param {ViewState} state
 * @param {string} kind
 * @returns {any[]}
 */
const kinds = (state, kind) => state.items.filter((item) => item.kind === kind);

test("deltas become the text, and the state carries the cursor of the last event", () => {
  const state = fold(shortRun());
  assert.deepEqual(texts(state), ["hello", "one two three"]);
  assert.equal(state.cursor, "e.8.tag");
  assert.equal(state.seq, 8);
  assert.equal(state.status, "idle");
  assert.equal(state.run?.status, "completed");
});

test("an event that was seen changes nothing, not even the object", () => {
  const state = fold(shortRun().slice(0, 5));
  for (const seen of shortRun().slice(0, 5)) assert.equal(reduce(state, seen), state);
});

test("any replay from any point gives the same state as one pass", () => {
  const whole = fold(shortRun());
  for (let cut = 1; cut <= 8; cut += 1) {
    for (let back = 0; back < cut; back += 1) {
      const events = [...shortRun().slice(0, cut), ...shortRun().slice(back)];
      assert.deepEqual(fold(events), whole);
    }
  }
});

test("a hole is noticed and never applied", () => {
  const state = fold(shortRun().slice(0, 4));
  assert.equal(placeOf(state, 6), "gap");
  assert.throws(() => reduce(state, shortRun()[5]), RangeError);
});

test("after a snapshot the next event says where the log stands", () => {
  const state = fromSnapshot(snapshot("idle", { cursor: "e.41.x" }));
  const next = reduce(state, event(42, "custom", { name: "x", payload: null }));
  assert.equal(next.seq, 42);
  assert.equal(placeOf(next, 44), "gap");
});

test("an earlier state is never changed", () => {
  const before = fold(shortRun().slice(0, 4));
  const copy = structuredClone(before);
  fold(shortRun().slice(4), before);
  assert.deepEqual(before, copy);
});

test("an unknown type moves the cursor and nothing else", () => {
  const state = fold(shortRun());
  const next = reduce(state, event(9, "future.thing", { anything: [1] }));
  assert.deepEqual(next, { ...state, seq: 9, cursor: "e.9.tag" });
});

test("a stopped answer keeps its text and is marked incomplete", () => {
  const stopped = [
    event(6, "message.completed", { message_id: "msg_a", text: "one two ", incomplete: true }),
    event(7, "run.cancelled", { reason: "cancel" }),
  ];
  const state = fold([...shortRun().slice(0, 5), ...stopped]);
  assert.equal(kinds(state, "message")[1].status, "incomplete");
  assert.equal(kinds(state, "message")[1].text, "one two ");
  assert.equal(state.run?.status, "cancelled");
  const goneOn = reduce(
    state,
    event(8, "run.started", { run_id: "run_2", parent_run_id: "run_1" }),
  );
  assert.equal(kinds(goneOn, "message")[1].status, "superseded");
});

test("after a take-over only the unfinished step is said anew", () => {
  const message = (
    /** @type {number} */ seq,
    /** @type {string} */ id,
    /** @type {number} */ turn,
  ) => [
    event(seq, "message.started", { message_id: id, role: "assistant", turn }),
    event(seq + 1, "message.completed", { message_id: id, text: id }),
  ];
  const state = fold([
    ...message(1, "msg_1", 1),
    ...message(3, "msg_2", 2),
    event(5, "run.attempt_started", { attempt: 2, supersedes: 1, from_step: 1, reason: "restart" }),
  ]);
  assert.deepEqual(
    kinds(state, "message").map(({ status }) => status),
    ["complete", "superseded"],
  );
  assert.equal(state.run?.attempt, 2);
});

test("a queued input waits beside the conversation and then joins it", () => {
  const message = { role: "user", content: "next", message_id: "msg_q" };
  const queued = event(6, "input.queued", {
    run_id: "run_2",
    command_id: "c2",
    message,
    position: 1,
  });
  const waiting = fold([...shortRun().slice(0, 5), queued]);
  assert.deepEqual(
    waiting.queue.map(({ text }) => text),
    ["next"],
  );
  assert.equal(texts(waiting).includes("next"), false);
  const dequeued = { run_id: "run_2", command_id: "c2", reason: "started" };
  const accepted = { run_id: "run_2", message, command_id: "c2", policy: "enqueue" };
  const joined = fold(
    [event(7, "input.dequeued", dequeued), event(8, "input.accepted", accepted)],
    waiting,
  );
  assert.deepEqual(joined.queue, []);
  assert.equal(texts(joined).filter((text) => text === "next").length, 1);
});

test("a queued run that is cancelled leaves the active one alone", () => {
  const message = { role: "user", content: "next", message_id: "msg_q" };
  const state = fold([
    ...shortRun().slice(0, 5),
    event(6, "input.queued", { run_id: "run_2", command_id: "c2", message, position: 1 }),
    event(7, "input.dequeued", { run_id: "run_2", command_id: "c2", reason: "cancelled" }),
    event(8, "run.cancelled", { run_id: "run_2", reason: "cancel" }),
  ]);
  assert.deepEqual(state.queue, []);
  assert.equal(state.run?.run_id, "run_1");
  assert.equal(state.status, "running");
  assert.equal(texts(state).includes("next"), false);
});

test("a tool call is written, runs, reports and ends", () => {
  const call = { call_id: "call_1", name: "get_weather" };
  const steps = [
    ["tool_call.started", call, "writing"],
    ["tool_call.delta", { call_id: "call_1", arguments: '{"city":' }, "writing"],
    ["tool_call.delta", { call_id: "call_1", arguments: '"Oslo"}' }, "writing"],
    ["tool_call.ready", { ...call, arguments: '{"city":"Oslo"}' }, "ready"],
    ["tool.started", { ...call, arguments: '{"city":"Oslo"}', idempotency_key: "k" }, "running"],
    ["tool.progress", { call_id: "call_1", data: { progress: 0.5 } }, "running"],
    ["tool.completed", { ...call, result: { sky: "clear" }, duration_ms: 12 }, "completed"],
  ];
  let state = empty();
  steps.forEach(([type, fields, status], index) => {
    state = reduce(
      state,
      event(index + 1, /** @type {string} */ (type), /** @type {any} */ (fields)),
    );
    assert.equal(kinds(state, "tool")[0].status, status);
  });
  const [tool] = kinds(state, "tool");
  assert.equal(tool.arguments, '{"city":"Oslo"}');
  assert.deepEqual(tool.progress, { progress: 0.5 });
  assert.deepEqual(tool.result, { sky: "clear" });
  assert.equal(state.items.length, 1);
});

test("calls with one id in two runs are two calls", () => {
  const call = { call_id: "call_1", name: "look" };
  const state = fold([
    event(1, "tool_call.started", call),
    event(2, "tool_call.started", { ...call, run_id: "run_2" }),
  ]);
  assert.equal(kinds(state, "tool").length, 2);
});

test("a failure that will be tried again is not the end of the tool", () => {
  const call = { call_id: "call_1", name: "look" };
  const error = { code: "busy", message: "try later" };
  const trying = fold([
    event(1, "tool.started", { ...call, arguments: "{}", idempotency_key: "k" }),
    event(2, "tool.failed", { ...call, error, will_retry: true }),
  ]);
  assert.equal(kinds(trying, "tool")[0].status, "running");
  const failed = reduce(trying, event(3, "tool.failed", { ...call, error, will_retry: false }));
  assert.equal(kinds(failed, "tool")[0].status, "failed");
  assert.equal(kinds(failed, "tool")[0].error.message, "try later");
});

test("an approval is asked once and keeps its answer", () => {
  const asked = { approval_id: "apr_1", call_id: "call_1", tool: "delete_file", arguments: "{}" };
  const open = fold([
    event(1, "run.started", { agent: "tools" }),
    event(2, "approval.requested", asked),
    event(3, "run.interrupted", { reason: "approval", pending: ["apr_1"] }),
  ]);
  assert.equal(kinds(open, "approval")[0].decision, null);
  assert.equal(open.status, "interrupted");
  const settled = reduce(
    open,
    event(4, "approval.resolved", { approval_id: "apr_1", decision: "rejected" }),
  );
  assert.equal(kinds(settled, "approval")[0].decision, "rejected");
});

test("tokens add up over model calls", () => {
  const usage = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };
  const state = fold([
    event(1, "model.completed", { turn: 1, usage, tool_calls: [] }),
    event(2, "model.completed", { turn: 2, usage, tool_calls: [] }),
  ]);
  assert.deepEqual(state.usage, { prompt_tokens: 6, completion_tokens: 4, total_tokens: 10 });
});

test("what is rolled back takes along all that came after it", () => {
  const tool = { call_id: "c1", name: "f", message_id: "msg_t" };
  const before = [
    ...shortRun(),
    event(9, "tool_call.started", tool),
    event(10, "tool.completed", { ...tool, result: 1, duration_ms: 1 }),
    event(11, "approval.requested", { approval_id: "a1", call_id: "c1", tool: "f" }),
  ];
  const left = (/** @type {string[]} */ ...message_ids) =>
    fold([...before, event(12, "history.rolled_back", { run_id: "run_2", message_ids })]).items;
  assert.deepEqual(left("msg_u", "msg_a", "msg_t"), []);
  assert.deepEqual(
    left("msg_t").map(({ key }) => key),
    ["message:msg_u", "message:msg_a"],
  );
  assert.equal(left("msg_x").length, 4);
});

const history = [
  { role: "user", content: "hello", message_id: "h1" },
  {
    role: "assistant",
    content: "",
    message_id: "h2",
    tool_calls: ["c1", "c2", "c3"].map((id) => ({ id, name: "f", arguments: "{}" })),
  },
  { role: "tool", content: "one", message_id: "h3", tool_call_id: "c1" },
];

test("what was said elsewhere is shown, with the results of its calls", () => {
  const state = fold([event(1, "session.created", { history })]);
  assert.deepEqual(
    state.items.map(({ kind, runId }) => [kind, runId]),
    [
      ["message", null],
      ["tool", null],
      ["tool", null],
      ["tool", null],
    ],
  );
  assert.deepEqual(
    kinds(state, "tool").map(({ status, result }) => [status, result]),
    [
      ["completed", "one"],
      ["ready", null],
      ["ready", null],
    ],
  );
  assert.deepEqual(fold([event(1, "session.created")]).items, []);
});

test("an input that is a result answers its call, and the calls beside it stay without one", () => {
  const message = { role: "tool", content: "two", message_id: "m", tool_call_id: "c2" };
  const state = fold([
    event(1, "session.created", { history }),
    event(2, "input.accepted", { message, command_id: "x", policy: "enqueue" }),
  ]);
  assert.equal(state.items.length, 4);
  assert.deepEqual(
    kinds(state, "tool").map(({ status, result, error }) => [status, result, error?.code]),
    [
      ["completed", "one", undefined],
      ["completed", "two", undefined],
      ["failed", null, "no_result"],
    ],
  );
  assert.equal(state.run?.status, "queued");
});

test("a call of a client's tool is asked about, answered, and done without having started", () => {
  const call = { call_id: "c1", name: "place", message_id: "m1" };
  const asked = { approval_id: "a1", call_id: "c1", tool: "place", arguments: "{}" };
  const waiting = fold([
    event(1, "tool_call.started", call),
    event(2, "tool_call.ready", { ...call, arguments: "{}" }),
    event(3, "approval.requested", { ...asked, reason: "client tool", wants: "result" }),
  ]);
  assert.equal(kinds(waiting, "approval")[0].wants, "result");
  const answer = { approval_id: "a1", decision: "answered", result: { city: "Ulm" } };
  const done = fold(
    [
      event(4, "approval.resolved", answer),
      event(5, "tool.completed", { ...call, result: { city: "Ulm" }, duration_ms: 0 }),
    ],
    waiting,
  );
  assert.deepEqual(kinds(done, "approval")[0].result, { city: "Ulm" });
  assert.equal(kinds(done, "approval")[0].decision, "answered");
  assert.equal(kinds(done, "tool")[0].status, "completed");
});

test("a run that goes on from another one does that one's calls, and shows no others", () => {
  const call = { call_id: "c1", name: "f" };
  const state = fold([
    event(1, "tool_call.started", call),
    event(2, "tool_call.ready", { ...call, arguments: "{}" }),
    event(3, "run.cancelled", { reason: "cancel" }),
    event(4, "run.started", { run_id: "run_2", parent_run_id: "run_1", agent: "echo" }),
    event(5, "tool.completed", { ...call, run_id: "run_2", result: 1, duration_ms: 1 }),
  ]);
  assert.deepEqual(
    kinds(state, "tool").map(({ status }) => status),
    ["completed"],
  );
});

test("the queue is in the order that was decided, and shows how each waits", () => {
  const said = (/** @type {string} */ text) => ({ role: "user", content: text, message_id: text });
  const queued = (/** @type {number} */ seq, /** @type {string} */ text, policy = "enqueue") =>
    event(seq, "input.queued", {
      run_id: `run_${text}`,
      command_id: text,
      message: said(text),
      position: seq - 5,
      policy,
    });
  const waiting = fold([
    ...shortRun().slice(0, 5),
    queued(6, "a"),
    queued(7, "b", "steer"),
    queued(8, "c"),
    event(9, "input.reordered", { run_ids: ["run_c", "run_a", "run_b"], command_id: "e1" }),
  ]);
  assert.deepEqual(
    waiting.queue.map(({ text, policy }) => [text, policy]),
    [
      ["c", "enqueue"],
      ["a", "enqueue"],
      ["b", "steer"],
    ],
  );
  const taken = fold(
    [
      event(10, "input.dequeued", { run_id: "run_b", command_id: "b", reason: "steered" }),
      event(11, "input.steered", { run_id: "run_1", command_id: "b", message: said("b") }),
    ],
    waiting,
  );
  assert.deepEqual(
    taken.queue.map(({ text }) => text),
    ["c", "a"],
  );
  const steered = taken.items.find((item) => item.kind === "message" && item.text === "b");
  assert.equal(steered?.runId, "run_1");
  const ended = fold([event(10, "run.cancelled", { run_id: "run_1", reason: "cancel" })], waiting);
  assert.deepEqual(new Set(ended.queue.map(({ policy }) => policy)), new Set(["enqueue"]));
  const paused = fold([event(10, "run.interrupted", { run_id: "run_1", reason: "x" })], waiting);
  assert.equal(paused.queue[2].policy, "steer");
});
