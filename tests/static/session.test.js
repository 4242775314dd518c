// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { ConnectionLost, Refused } from "../../static/js/failure.js";
import { event, reset, shortRun, snapshot, texts, World } from "./support.js";

const lost = { reconnect: true, reason: "lost" };

/** Let promises that can go on do so. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

test("the first connection of a session that is not known asks for a snapshot", () => {
  const world = new World();
  const session = world.session();
  assert.equal(world.last.after, null);
  world.last.onUp();
  world.last.onFrame(reset({ cursor: "e.7.tag" }));
  assert.equal(session.cursor, "e.7.tag");
  assert.equal(session.connection.state, "connected");
});

test("a session that was just made goes on right after its own snapshot", () => {
  const world = new World();
  world.session(snapshot("idle", { cursor: "e.1.tag" }));
  assert.equal(world.last.after, "e.1.tag");
});

test("a connection that dies anywhere goes on at the last applied event", () => {
  for (let cut = 1; cut < 8; cut += 1) {
    const world = new World();
    const session = world.session(snapshot());
    for (const one of shortRun().slice(0, cut)) world.last.onFrame(one);
    world.last.onDown(lost);
    world.fire();
    assert.equal(world.opened.length, 2);
    assert.equal(world.last.after, `e.${cut}.tag`);
    for (const one of shortRun().slice(cut)) world.last.onFrame(one);
    assert.deepEqual(texts(session.state), ["hello", "one two three"]);
  }
});

test("repeats are dropped and counted", () => {
  const world = new World();
  const session = world.session(snapshot());
  for (const one of [...shortRun().slice(0, 5), ...shortRun()]) world.last.onFrame(one);
  assert.deepEqual(texts(session.state), ["hello", "one two three"]);
  assert.equal(session.connection.duplicates, 5);
  assert.equal(world.frames.length, 8);
});

test("a gap is not applied: the session goes back for what is missing", () => {
  const world = new World();
  const session = world.session(snapshot());
  const events = shortRun();
  for (const one of events.slice(0, 4)) world.last.onFrame(one);
  world.last.onFrame(events[5]);
  assert.equal(world.opened[0].closed, true);
  assert.equal(session.cursor, "e.4.tag");
  world.fire();
  assert.equal(world.last.after, "e.4.tag");
  for (const one of events.slice(4)) world.last.onFrame(one);
  assert.deepEqual(texts(session.state), ["hello", "one two three"]);
});

test("a reset replaces everything in one step", () => {
  const world = new World();
  const session = world.session(snapshot());
  for (const one of shortRun()) world.last.onFrame(one);
  const messages = [{ message_id: "n", role: "user", text: "anew", run_id: "run_9" }];
  world.last.onFrame(reset({ messages, cursor: "f.3.tag" }, "epoch_changed"));
  assert.deepEqual(texts(session.state), ["anew"]);
  assert.equal(session.cursor, "f.3.tag");
  world.last.onFrame({ ...event(4, "run.started"), cursor: "f.4.tag" });
  assert.equal(session.cursor, "f.4.tag");
});

test("switching the transport in mid-answer loses and repeats nothing", () => {
  const world = new World();
  const session = world.session(snapshot());
  const events = shortRun();
  for (const one of events.slice(0, 5)) world.last.onFrame(one);
  const before = world.last;
  session.switchTo("websocket");
  assert.equal(before.closed, true);
  assert.equal(world.last.over, "websocket");
  assert.equal(world.last.after, "e.5.tag");
  before.onFrame(events[5]);
  before.onDown(lost);
  assert.equal(session.cursor, "e.5.tag", "the old connection is not listened to any more");
  for (const one of events.slice(5)) world.last.onFrame(one);
  assert.deepEqual(texts(session.state), ["hello", "one two three"]);
  assert.equal(session.connection.state, "connecting", "nobody means to reconnect");
});

test("a cut connection comes back by itself", () => {
  const world = new World();
  const session = world.session(snapshot());
  world.last.onUp();
  session.cut();
  assert.equal(session.connection.state, "reconnecting");
  assert.equal(world.last.closed, true);
  world.fire();
  assert.equal(session.connection.state, "connecting");
  world.last.onUp();
  assert.equal(session.connection.state, "connected");
});

test("waits grow while tries fail, and start anew only after a steady stream", () => {
  const world = new World();
  const session = world.session(snapshot());
  world.dice = 1;
  const waits = [];
  for (let attempt = 0; attempt < 4; attempt += 1) {
    if (attempt === 2) {
      world.last.onUp();
      world.now += 9.5;
    }
    world.last.onDown(lost);
    waits.push(session.connection.retryInSeconds);
    world.fire();
  }
  assert.deepEqual(waits, [0.5, 1, 2, 4]);
  world.last.onUp();
  world.now += 10;
  world.last.onDown(lost);
  assert.equal(session.connection.retryInSeconds, 0.5);
});

test("a server that says when it is back is not asked earlier", () => {
  const world = new World();
  const session = world.session(snapshot());
  world.dice = 0;
  world.last.onFrame({ type: "stream.closing", reason: "shutdown", retry_ms: 1500 });
  world.last.onDown(lost);
  assert.equal(session.connection.retryInSeconds, 1.5);
});

test("a server without its store says so, until something comes again", () => {
  const world = new World();
  const session = world.session(snapshot());
  world.last.onFrame({ type: "stream.heartbeat", reason: "engine_unavailable" });
  assert.match(session.connection.reason ?? "", /cannot reach its store/);
  world.last.onFrame(event(1, "run.started", {}));
  assert.equal(session.connection.reason, null);
});

test("a refusal that stays ends the connection for good", () => {
  const world = new World();
  const session = world.session(snapshot());
  world.last.onDown({ reconnect: false, reason: "deleted" });
  assert.equal(session.connection.state, "stopped");
  assert.equal(session.connection.reason, "deleted");
  assert.equal(world.waiting.length, 0);
});

test("the end of a closed session's stream is not a loss", () => {
  const world = new World();
  const session = world.session(snapshot());
  world.last.onFrame(event(1, "session.closed", { run_id: undefined, reason: "deleted" }));
  world.last.onDown(lost);
  assert.equal(session.connection.state, "stopped");
});

test("a cursor that the server cannot read is given up for a snapshot; what was known stays in sight", () => {
  const world = new World();
  const session = world.session(snapshot());
  for (const one of shortRun()) world.last.onFrame(one);
  world.last.onDown({ reconnect: true, reason: "bad cursor", forgetCursor: true });
  world.fire();
  assert.equal(world.last.after, null);
  assert.deepEqual(texts(session.state), ["hello", "one two three"]);
  world.last.onFrame(reset({ cursor: "f.1.tag" }));
  assert.equal(session.cursor, "f.1.tag");
});

test("without a network it waits for one instead of trying", () => {
  const world = new World();
  const session = world.session(snapshot());
  world.isOnline = false;
  session.networkChanged();
  assert.equal(session.connection.state, "offline");
  assert.equal(world.waiting.length, 0);
  world.isOnline = true;
  session.networkChanged();
  world.fire();
  assert.equal(session.connection.state, "connecting");
  assert.equal(world.opened.length, 2);
});

test("a command whose connection dies is sent again with the same id, over whatever there is then", async () => {
  const world = new World();
  const session = world.session(snapshot());
  const answered = session.submit({ type: "send", text: "hello" });
  await settle();
  const first = world.last;
  assert.equal(first.sent.length, 1);
  session.switchTo("websocket");
  first.refuse(new ConnectionLost("gone"));
  await settle();
  world.last.onUp();
  await settle();
  assert.equal(world.last.sent.length, 1);
  assert.deepEqual(world.last.sent[0], first.sent[0]);
  world.last.answer({ id: first.sent[0].id, run_id: "run_1" });
  assert.equal((await answered).run_id, "run_1");
});

test("a command that was refused is not sent again", async () => {
  const world = new World();
  const session = world.session(snapshot());
  const answered = session.submit({ type: "continue" });
  await settle();
  world.last.refuse(new Refused("there is no run to continue", "run_not_resumable"));
  await assert.rejects(answered, /no run to continue/);
  world.fire();
  await settle();
  assert.equal(world.last.sent.length, 1);
});

test("a command does not wait for a connection that will never come", async () => {
  const world = new World();
  const session = world.session(snapshot());
  const answered = session.submit({ type: "cancel" });
  await settle();
  world.last.refuse(new ConnectionLost("gone"));
  await settle();
  world.last.onDown({ reconnect: false, reason: "deleted" });
  await assert.rejects(answered, ConnectionLost);
});

test("each command has an id of its own", async () => {
  const world = new World();
  const session = world.session(snapshot());
  for (let count = 0; count < 3; count += 1) session.submit({ type: "cancel" }).catch(() => {});
  await settle();
  assert.equal(new Set(world.last.sent.map(({ id }) => id)).size, 3);
});

test("a session that was left says nothing more, and its commands end", async () => {
  const world = new World();
  const session = world.session(snapshot());
  const answered = session.submit({ type: "cancel" });
  await settle();
  world.last.refuse(new ConnectionLost("gone"));
  await settle();
  session.close();
  await assert.rejects(answered, ConnectionLost);
  world.last.onFrame(shortRun()[0]);
  assert.deepEqual(world.frames, []);
});
