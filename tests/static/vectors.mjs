// @ts-check
/**
 * @file Drives the browser's library through the cases of `tests/vectors`. Each line of the input is a
 * case as JSON; each line of the output is what the client did, a list for each step.
 */

import { createInterface } from "node:readline";

import { BROKEN, afterAnswer, afterClose, afterNack } from "../../static/js/endings.js";
import { ConnectionLost, failureOf } from "../../static/js/failure.js";
import { submit } from "../../static/js/outbox.js";
import { Session } from "../../static/js/session.js";
import { event, reset, snapshot, World } from "./support.js";

/** Let promises that can go on do so. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** @param {any} answer What a step says of an HTTP answer. */
function response({ status, code, retry_after: retryAfter }) {
  const headers = retryAfter === undefined ? {} : { "Retry-After": String(retryAfter) };
  const body = status === 204 ? null : JSON.stringify(code === undefined ? {} : { code });
  return new Response(body, { status, headers });
}

/**
 * A reader of a session.
 * @param {any} story
 * @param {number} dice
 */
function reader({ after, over = "websocket" }, dice) {
  /** @type {string[]} */
  let done = [];
  const world = new World();
  world.dice = dice;
  let duplicates = 0;
  let state = "";
  let hearing = 0;
  const around = {
    ...world.around,
    onFrame: (/** @type {any} */ frame) => {
      if (frame.seq !== undefined) done.push(`apply ${frame.seq}`);
      if (frame.type === "stream.reset") done.push(`reset ${frame.reason} ${frame.cursor}`);
    },
    onChange: () => {
      const now = session.connection;
      if (now.duplicates > duplicates) done.push(`drop ${hearing}`);
      duplicates = now.duplicates;
      if (now.state === state) return;
      state = now.state;
      if (state === "reconnecting") done.push(`wait ${now.retryInSeconds}`);
      if (state === "stopped") done.push(now.code === null ? "end" : `stop ${now.code}`);
    },
  };
  const known = after === undefined ? undefined : snapshot("idle", { session_id: "s", cursor: after });
  const session = new Session("s", over, around, known);
  const connected = () => done.push(`connect ${world.last.after ?? "anew"}`);
  const hear = (/** @type {any} */ frame) => {
    hearing = frame.seq;
    world.last.onAlive();
    world.last.onFrame(frame);
  };
  session.connect();
  connected();

  return {
    done: () => done.splice(0),
    /** @param {any} step */
    take(step) {
      if ("up" in step) world.last.onUp(step.up.heartbeat_s);
      for (const each of step.events ?? []) {
        const it = typeof each === "number" ? { seq: each } : each;
        const { seq, epoch = "e", type = "custom", session: session_id = "s" } = it;
        hear({ ...event(seq, type), cursor: `${epoch}.${seq}.t`, session_id });
      }
      if ("frame" in step) hear(step.frame);
      if ("reset" in step) {
        const { reason, cursor, status = "idle" } = step.reset;
        hear({ ...reset({ session_id: "s", status, cursor }, reason), session_id: "s" });
      }
      if ("closing" in step) hear({ type: "stream.closing", session_id: "s", ...step.closing });
      if ("retry_ms" in step) world.last.onRetry(step.retry_ms / 1000);
      const withCursor = world.last.after !== null;
      if ("broken" in step) world.last.onDown(BROKEN);
      if ("close" in step) world.last.onDown(afterClose(step.close));
      if ("nack" in step) world.last.onDown(afterNack(step.nack, withCursor));
      if ("answer" in step) {
        const { status, code, retry_after: retryAfterSeconds } = step.answer;
        world.last.onDown(afterAnswer({ status, code, retryAfterSeconds }, withCursor));
      }
      if ("silence" in step) world.pass(step.silence);
      for (let second = 0; second < (step.quiet ?? 0); second += 1) {
        world.pass(1);
        world.last.onAlive();
      }
      if ("timer" in step) {
        world.fire();
        connected();
      }
    },
  };
}

/**
 * A program that gives commands.
 * @param {number} dice
 */
function sender(dice) {
  /** @type {string[]} */
  const done = [];
  /** @type {string[]} */
  const ids = [];
  /** @type {any} */
  let travelling;
  let wake = () => {};
  const road = {
    send: (/** @type {any} */ { id }) => {
      if (!ids.includes(id)) ids.push(id);
      done.push(`send ${ids.indexOf(id) + 1}`);
      return new Promise((resolve, reject) => {
        travelling = { resolve, reject, id };
      });
    },
    pause: (/** @type {number} */ seconds) => {
      done.push(`wait ${seconds}`);
      return new Promise((/** @type {(nothing?: any) => void} */ resolve) => {
        wake = resolve;
      });
    },
    closed: () => false,
    random: () => dice,
  };
  return {
    done: () => done.splice(0),
    /** @param {any} step */
    async take(step) {
      if ("command" in step) {
        submit(road, step.command).then(
          () => done.push("acked"),
          (failure) => done.push(`refused ${failure.code}`),
        );
      }
      if ("broken" in step) travelling.reject(new ConnectionLost("gone"));
      if ("answer" in step) {
        if (step.answer.status === 202) travelling.resolve({ id: travelling.id });
        else travelling.reject(await failureOf(response(step.answer)));
      }
      if ("timer" in step) wake();
    },
  };
}

/**
 * @param {any} story
 * @param {number} dice
 * @returns {Promise<string[][]>} What was done at the beginning, and at each step.
 */
async function play(story, dice) {
  const client = story.steps.some((/** @type {any} */ step) => "command" in step)
    ? sender(dice)
    : reader(story, dice);
  const told = [client.done()];
  for (const step of story.steps) {
    await client.take(step);
    await settle();
    told.push(client.done());
  }
  return told;
}

for await (const line of createInterface({ input: process.stdin })) {
  const story = JSON.parse(line);
  const [least, most] = [await play(story, 0), await play(story, 1)];
  const told = least.map((actions, step) =>
    actions.map((action, index) => {
      const [, seconds] = /^wait (.*)$/.exec(most[step][index] ?? "") ?? [];
      return seconds === undefined ? action : `${action}..${seconds}`;
    }),
  );
  console.log(JSON.stringify(told));
}
