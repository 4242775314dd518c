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
import { afterClosing, BROKEN } from "./endings.js";
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

/** A WebSocket's signs of life, in seconds, until the server says otherwise (ws.heartbeat). */
const HEARTBEAT_SECONDS = 25;

/** A connection without a sign of life for so many heartbeats is dead. */
const SILENT_HEARTBEATS = 2.5;

/** What is said while the server cannot reach its store; the stream goes on by itself. */
const STORE_AWAY = "The server cannot reach its store at the moment.";

export class Session {
  /** @type {Surroundings} */ #around;
  /** @type {Connection | null} */ #connection = null;
  /** @type {number | null} */ #upSince = null;
  /** @type {any} */ #timer = null;
  /** @type {any} */ #watch = null;
  #heardAt = 0;
  #heartbeatSeconds = HEARTBEAT_SECONDS;
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
      code: null,
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
      onUp: (heartbeatSeconds) => isCurrent() && this.#up(heartbeatSeconds),
      onAlive: () => isCurrent() && this.#heard(),
      onRetry: (seconds) => {
        if (isCurrent()) this.#retryFloorSeconds = seconds;
      },
      onFrame: (frame) => isCurrent() && this.#take(frame),
      onDown: (down) => isCurrent() && this.#down(down),
    });
    this.#connection = mine.connection;
    this.#heard();
    this.#listen(this.#heartbeatSeconds);
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
        pause: (seconds, floorSeconds) =>
          new Promise((resolve) => {
            const timer = after(done, seconds);
            const { cancel } = this.#around;
            const waiters = this.#waiters;
            if (floorSeconds === 0) waiters.add(done);
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

  /** @param {number | undefined} heartbeatSeconds */
  #up(heartbeatSeconds) {
    this.#upSince = this.#around.nowSeconds();
    this.#heartbeatSeconds = heartbeatSeconds ?? this.#heartbeatSeconds;
    this.#heard();
    this.#listen(this.#heartbeatSeconds);
    this.#retryFloorSeconds = 0;
    this.#set({ state: "connected", retryInSeconds: null, reason: null });
    this.#wakeWaiters();
  }

  #heard() {
    this.#heardAt = this.#around.nowSeconds();
  }

  /**
   * Wait for a sign of life. After a heartbeat of silence the server is asked for one, and what is
   * left of the time it gets to give it begins then: timers of a hidden page are late.
   * @param {number} seconds
   * @param {boolean} [asked] Whether it was asked.
   */
  #listen(seconds, asked = false) {
    const { after, cancel, nowSeconds } = this.#around;
    const since = this.#heardAt;
    cancel(this.#watch);
    this.#watch = after(() => {
      const heartbeat = this.#heartbeatSeconds;
      if (this.#heardAt > since) {
        this.#listen(Math.max(0, heartbeat - (nowSeconds() - this.#heardAt)));
      } else if (asked) {
        this.#down({ ...BROKEN, reason: "The server fell silent." });
      } else {
        this.#connection?.probe();
        this.#listen((SILENT_HEARTBEATS - 1) * heartbeat, true);
      }
    }, seconds);
  }

  /** @param {Frame} frame */
  #take(frame) {
    if (frame.session_id !== undefined && frame.session_id !== this.sessionId) return;
    if (frame.type === "stream.closing") {
      this.#around.onFrame(frame);
      this.#down(afterClosing(frame));
      return;
    }
    if (frame.type === "stream.heartbeat") {
      this.#set({ reason: STORE_AWAY });
      return;
    }
    if (this.connection.reason === STORE_AWAY) this.#set({ reason: null });
    if (frame.type === "stream.reset") {
      // In one step: nobody ever sees a state that is half the old and half the new.
      this.state = { ...fromSnapshot(frame.snapshot), cursor: frame.cursor ?? "" };
      this.#cursorRefused = false;
    } else if (!frame.type.startsWith("stream.")) {
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

  /** @param {Down} down */
  #down({ reconnect, reason, code, forgetCursor = false, floorSeconds = 0 }) {
    const { nowSeconds } = this.#around;
    const lived = this.#upSince === null ? 0 : nowSeconds() - this.#upSince;
    this.#drop();
    this.#cursorRefused ||= forgetCursor;
    const attempt = nextAttempt(this.connection.attempt, lived);
    const over = this.state?.status === "closed";
    if (!reconnect || over) {
      const word = over ? null : (code ?? null);
      this.#set({ state: "stopped", reason, code: word, retryInSeconds: null });
      this.#wakeWaiters();
      return;
    }
    this.#set({ attempt, reason });
    this.#retry(Math.max(floorSeconds, this.#retryFloorSeconds));
  }

  /** @param {number} [floorSeconds] What the server asked for. */
  #retry(floorSeconds = this.#retryFloorSeconds) {
    const { random, after, cancel } = this.#around;
    const { attempt, reconnects } = this.connection;
    const seconds = Math.max(delaySeconds(attempt, random), floorSeconds);
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
    this.#around.cancel(this.#watch);
    this.#timer = null;
    this.#watch = null;
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
