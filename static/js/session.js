// @ts-check
/**
 * @file One session on the page: owns the cursor, the state and the connection.
 *
 *     connecting ──up──▶ connected ──down──▶ reconnecting ──timer──▶ connecting
 *         │                                     ▲   │ the browser says so
 *         └───────────────down──────────────────┘   └──▶ offline ──online──▶ connecting
 *     any ── a refusal that stays, or the end of a closed session ──▶ stopped
 *
 * The cursor is that of the last event *applied*, so wherever a connection dies, the next one
 * goes on right there: nothing is lost and nothing comes twice, on whichever transport.
 */

import { delaySeconds, nextAttempt } from "./backoff.js";
import { submit } from "./outbox.js";
import { placeOf, reduce } from "./reduce.js";
import { ConnectionLost } from "./failure.js";
import { fromSnapshot } from "./snapshot.js";

/** @typedef {import("./types.js").Connection} Connection */
/** @typedef {import("./types.js").ConnectionStatus} ConnectionStatus */
/** @typedef {import("./types.js").Down} Down */
/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").Transport} Transport */
/** @typedef {import("./types.js").TransportName} TransportName */
/** @typedef {import("./types.js").ViewState} ViewState */

/**
 * @typedef {object} Surroundings Everything that is not pure, so that tests can pass their own.
 * @property {Record<TransportName, Transport>} transports
 * @property {() => number} random Uniform in [0, 1).
 * @property {() => number} nowSeconds A clock that never goes back.
 * @property {(act: () => void, seconds: number) => any} after Act later; returns what to cancel.
 * @property {(timer: any) => void} cancel
 * @property {() => boolean} online Whether the machine has a network, as far as it knows.
 * @property {() => void} onChange The state or the connection changed.
 * @property {(frame: Frame) => void} onFrame A frame that was applied, or a control object.
 */

export class Session {
  /** @type {Surroundings} */ #around;
  /** @type {Connection | null} */ #connection = null;
  /** @type {number | null} */ #upSince = null;
  /** @type {any} */ #timer = null;
  #retryFloorSeconds = 0;
  #cursorRefused = false;
  #closed = false;
  /** @type {Set<() => void>} */ #waiters = new Set();

  /** @type {ViewState | null} What is known; null until the first snapshot. */
  state = null;
  /** @type {ConnectionStatus} */
  connection;

  /**
   * @param {string} sessionId
   * @param {TransportName} transport
   * @param {Surroundings} around
   * @param {any} [snapshot] If it is known already, the stream starts right after it.
   */
  constructor(sessionId, transport, around, snapshot) {
    this.sessionId = sessionId;
    this.#around = around;
    if (snapshot !== undefined) this.state = fromSnapshot(snapshot);
    this.connection = {
      state: "connecting",
      transport,
      attempt: 0,
      reconnects: 0,
      retryInSeconds: null,
      reason: null,
      duplicates: 0,
    };
  }

  /** @returns {string | null} Where the next connection goes on; null asks for a snapshot. */
  get cursor() {
    return this.#cursorRefused ? null : (this.state?.cursor ?? null);
  }

  /** Connect now, from the cursor; a connection that is there is dropped first. */
  connect() {
    if (this.#closed) return;
    this.#drop();
    this.#set({ state: "connecting", retryInSeconds: null });
    /** @type {{connection: Connection | null}} */
    const mine = { connection: null };
    const isCurrent = () => this.#connection === mine.connection;
    mine.connection = this.#around.transports[this.connection.transport]({
      sessionId: this.sessionId,
      after: this.cursor,
      onUp: () => isCurrent() && this.#up(),
      onFrame: (frame) => isCurrent() && this.#take(frame),
      onDown: (down) => isCurrent() && this.#down(down),
    });
    this.#connection = mine.connection;
  }

  /**
   * Go on over another transport, from the same cursor.
   * @param {TransportName} transport
   */
  switchTo(transport) {
    if (transport === this.connection.transport) return;
    this.#set({ transport, attempt: 0, reason: null });
    this.connect();
  }

  /** Drop the connection without a word, as a bad network would. */
  cut() {
    if (this.#connection === null) return;
    this.#down({ reconnect: true, reason: "You cut the connection." });
  }

  /** The network came or went, or the page woke up: do not wait for timers of another time. */
  networkChanged() {
    if (this.connection.state === "stopped" || this.#closed) return;
    if (!this.#around.online()) {
      this.#drop();
      this.#set({ state: "offline", retryInSeconds: null, reason: "This device is offline." });
    } else if (this.connection.state !== "connected") {
      this.#set({ attempt: 0 });
      this.#retry();
    }
  }

  /** Connect anew although we seem connected: after a long sleep that may not be true. */
  refresh() {
    if (this.connection.state === "connected") this.connect();
    else this.networkChanged();
  }

  /**
   * Send a command, again and again with one id if connections die, until it is answered.
   * @param {{type: string, id?: string, [field: string]: any}} fields
   * @returns {Promise<import("./types.js").Ack>}
   * @throws {import("./failure.js").Refused}
   */
  submit(fields) {
    const { after, random } = this.#around;
    return submit(
      {
        send: async (command) => {
          if (this.#connection === null) throw new ConnectionLost("Not connected.");
          return this.#connection.send(command);
        },
        pause: (seconds) =>
          new Promise((resolve) => {
            const timer = after(done, seconds);
            const { cancel } = this.#around;
            const waiters = this.#waiters;
            waiters.add(done);
            function done() {
              cancel(timer);
              waiters.delete(done);
              resolve();
            }
          }),
        closed: () => this.#closed || this.connection.state === "stopped",
        random,
      },
      fields,
    );
  }

  /** Leave the session for good. It goes on without us. */
  close() {
    this.#closed = true;
    this.#drop();
    this.#wakeWaiters();
  }

  #up() {
    this.#upSince = this.#around.nowSeconds();
    this.#retryFloorSeconds = 0;
    this.#set({ state: "connected", retryInSeconds: null, reason: null });
    this.#wakeWaiters();
  }

  /** @param {Frame} frame */
  #take(frame) {
    if (frame.session_id !== undefined && frame.session_id !== this.sessionId) return;
    if (frame.type.startsWith("stream.")) {
      this.#obey(frame);
    } else {
      const place = this.cursor === null ? "gap" : this.#placeOf(frame);
      if (place === "gap") {
        this.#down({ reconnect: true, reason: "An event was missing; going back for it." });
        return;
      }
      if (place === "seen") {
        this.#set({ duplicates: this.connection.duplicates + 1 });
        return;
      }
      this.state = reduce(/** @type {ViewState} */ (this.state), frame);
    }
    this.#around.onFrame(frame);
    this.#around.onChange();
  }

  /** @param {Frame} event */
  #placeOf(event) {
    return placeOf(/** @type {ViewState} */ (this.state), event.seq ?? 0);
  }

  /** @param {Frame} control */
  #obey(control) {
    if (control.type === "stream.reset") {
      // In one step: nobody ever sees a state that is half the old and half the new.
      this.state = { ...fromSnapshot(control.snapshot), cursor: control.cursor ?? "" };
      this.#cursorRefused = false;
    } else if (control.type === "stream.closing") {
      this.#retryFloorSeconds = (control.retry_ms ?? 0) / 1000;
    }
  }

  /** @param {Down} down */
  #down({ reconnect, reason, forgetCursor = false }) {
    const { nowSeconds } = this.#around;
    const lived = this.#upSince === null ? 0 : nowSeconds() - this.#upSince;
    this.#drop();
    this.#cursorRefused ||= forgetCursor;
    const attempt = nextAttempt(this.connection.attempt, lived);
    if (!reconnect || this.state?.status === "closed") {
      this.#set({ state: "stopped", reason, retryInSeconds: null });
      this.#wakeWaiters();
      return;
    }
    this.#set({ attempt, reason });
    this.#retry();
  }

  #retry() {
    const { random, after, cancel } = this.#around;
    const { attempt, reconnects } = this.connection;
    const seconds = Math.max(delaySeconds(attempt, random), this.#retryFloorSeconds);
    cancel(this.#timer);
    this.#timer = after(() => this.connect(), seconds);
    this.#set({
      state: "reconnecting",
      attempt: attempt + 1,
      reconnects: reconnects + 1,
      retryInSeconds: seconds,
    });
  }

  #drop() {
    this.#around.cancel(this.#timer);
    this.#timer = null;
    this.#upSince = null;
    const connection = this.#connection;
    this.#connection = null;
    connection?.close();
  }

  #wakeWaiters() {
    for (const wake of [...this.#waiters]) wake();
  }

  /** @param {Partial<ConnectionStatus>} changes */
  #set(changes) {
    this.connection = { ...this.connection, ...changes };
    this.#around.onChange();
  }
}
