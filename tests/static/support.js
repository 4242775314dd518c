// @ts-check
/** Builders and fake transports for the tests of the page's modules. */

import { Session } from "../../static/js/session.js";

/** @typedef {import("../../static/js/types.js").Listener} Listener */

/**
 * @param {string} status
 * @param {Record<string, unknown>} [fields]
 */
export function snapshot(status = "idle", fields = {}) {
  return {
    session_id: "ses_1",
    agent: "echo",
    status,
    run: null,
    queue: [],
    messages: [],
    open: { messages: [], reasoning: [], tool_calls: [], tools: [], nodes: [] },
    approvals: [],
    usage: null,
    cursor: "e.0.00000000",
    created_at: "2026-11-21T02:00:00.000Z",
    metadata: {},
    ...fields,
  };
}

/**
 * @param {number} seq
 * @param {string} type
 * @param {Record<string, unknown>} [fields]
 */
export function event(seq, type, fields = {}) {
  return {
    v: 1,
    type,
    seq,
    cursor: `e.${seq}.tag`,
    session_id: "ses_1",
    run_id: "run_1",
    path: [],
    ...fields,
  };
}

/** A short run: one message of three deltas. Sequence numbers 1 to 8. */
export function shortRun() {
  const message = { role: "user", content: "hello", message_id: "msg_u" };
  const said = { message_id: "msg_a" };
  return [
    event(1, "input.accepted", { message, command_id: "c1", policy: "enqueue" }),
    event(2, "run.started", { agent: "echo", attempt: 1 }),
    event(3, "message.started", { ...said, role: "assistant", agent: "echo", turn: 1 }),
    event(4, "message.delta", { ...said, text: "one " }),
    event(5, "message.delta", { ...said, text: "two " }),
    event(6, "message.delta", { ...said, text: "three" }),
    event(7, "message.completed", { ...said, text: "one two three" }),
    event(8, "run.completed", { output: "one two three" }),
  ];
}

/** The frame that a late joiner gets first. */
export function reset(fields = {}, reason = "joined") {
  const whole = snapshot("idle", fields);
  return {
    type: "stream.reset",
    session_id: "ses_1",
    reason,
    cursor: whole.cursor,
    snapshot: whole,
  };
}

/** Everything around a session, under the test's control. Time stands still until it is told. */
export class World {
  /** @type {(Listener & {over: string, closed: boolean, probes: number, sent: any[], answer: (result: any) => void,
   *   refuse: (failure: Error) => void})[]} */
  opened = [];
  /** @type {{act: () => void, seconds: number, at: number, cancelled: boolean}[]} */
  timers = [];
  /** @type {any[]} */
  frames = [];
  now = 0;
  isOnline = true;
  dice = 0.5;

  /** @param {any} [known] */
  session(known) {
    const session = new Session("ses_1", "sse", this.around, known);
    session.connect();
    return session;
  }

  get around() {
    return {
      transports: { sse: this.#transport("sse"), websocket: this.#transport("websocket") },
      random: () => this.dice,
      nowSeconds: () => this.now,
      after: (/** @type {() => void} */ act, /** @type {number} */ seconds) => {
        const timer = { act, seconds, at: this.now + seconds, cancelled: false };
        this.timers.push(timer);
        return timer;
      },
      cancel: (/** @type {any} */ timer) => {
        if (timer) timer.cancelled = true;
      },
      online: () => this.isOnline,
      onChange: () => {},
      onFrame: (/** @type {any} */ frame) => this.frames.push(frame),
    };
  }

  /** The newest connection. */
  get last() {
    return /** @type {World["opened"][number]} */ (this.opened.at(-1));
  }

  /** Timers that still wait. */
  get waiting() {
    return this.timers.filter(({ cancelled }) => !cancelled);
  }

  /** Let the timers that wait go off. */
  fire() {
    for (const timer of this.waiting) {
      timer.cancelled = true;
      timer.act();
    }
  }

  /**
   * Let time pass, with all timers that are due in it.
   * @param {number} seconds
   */
  pass(seconds) {
    const end = this.now + seconds;
    for (;;) {
      const due = this.waiting.filter(({ at }) => at <= end).sort((one, two) => one.at - two.at)[0];
      if (due === undefined) break;
      this.now = due.at;
      due.cancelled = true;
      due.act();
    }
    this.now = end;
  }

  /**
   * @param {string} over
   * @returns {import("../../static/js/types.js").Transport}
   */
  #transport(over) {
    return (listener) => {
      /** @type {any} */
      const one = { ...listener, over, closed: false, probes: 0, sent: [] };
      this.opened.push(one);
      return {
        send: (command) =>
          new Promise((resolve, reject) => {
            one.sent.push(command);
            one.answer = resolve;
            one.refuse = reject;
          }),
        probe: () => {
          one.probes += 1;
        },
        close: () => {
          one.closed = true;
        },
      };
    };
  }
}

/** @param {import("../../static/js/types.js").ViewState | null} state */
export function texts(state) {
  return (state?.items ?? []).flatMap((item) => (item.kind === "message" ? [item.text] : []));
}
