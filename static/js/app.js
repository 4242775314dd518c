// @ts-check
/** @file What the page does: the agents, the list of sessions, and the one that is open. */

import { createSession, deleteSession, listAgents, listSessions, openSession } from "./client.js";
import { newId } from "./identifier.js";
import { withoutKnown, withoutSeen } from "./outgoing.js";

/** @typedef {import("./types.js").AgentInfo} AgentInfo */
/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./types.js").SessionSummary} SessionSummary */
/** @typedef {import("./types.js").TransportName} TransportName */

/** A title is the beginning of the first message, so many characters of it. */
const TITLE_LENGTH = 60;

/**
 * @typedef {object} Surroundings
 * @property {() => void} onChange Something to show has changed.
 * @property {(frame: Frame) => void} onFrame A frame came in on the open session.
 * @property {() => void} onOpen Another session was opened, or none.
 * @property {(text: string) => void} report Tell the user what went wrong.
 * @property {(sessionId: string | null) => void} navigate Make the address name this session.
 */

export class App {
  /** @type {readonly AgentInfo[]} */ agents = [];
  /** @type {readonly SessionSummary[]} */ sessions = [];
  /** @type {string | null} Where the next page of the list starts. */ next = null;
  /** @type {Session | null} The open session; null while a new one is being written. */ session =
    null;
  /** @type {readonly import("./outgoing.js").Outgoing[]} */ outgoing = [];
  /** @type {string | null} The agent that the user picked for what comes next. */ picked = null;
  /** @type {Promise<any> | null} A session that is being made. */ #making = null;
  /** @type {{id: string, agent: string, title: string} | null} One whose making failed, perhaps only
   * for us: who tries it again makes the same one. */ #wanted = null;
  /** @type {Surroundings} */ #around;

  /**
   * @param {TransportName} transport
   * @param {Surroundings} around
   */
  constructor(transport, around) {
    this.transport = transport;
    this.#around = around;
  }

  /** @returns {string | null} Who answers the next message. */
  get agent() {
    const state = this.session?.state;
    return this.picked ?? state?.run?.agent ?? state?.agent ?? this.agents[0]?.name ?? null;
  }

  /** @returns {boolean} Whether there is something to stop. */
  get active() {
    const { status } = this.session?.state ?? { status: "idle" };
    return this.outgoing.length > 0 || status === "running" || status === "interrupted";
  }

  /** Fetch the agents, if they are not known yet. */
  async loadAgents() {
    if (this.agents.length > 0) return;
    await this.#attempt(async () => {
      this.agents = await listAgents();
    });
  }

  /** Fetch the newest sessions. Quiet: the connection state says it when the server is away. */
  async refreshSessions() {
    const page = await listSessions(null).catch(() => null);
    if (page === null) return;
    const fresh = new Set(page.sessions.map(({ session_id: id }) => id));
    const last = page.sessions.at(-1);
    // Older pages that were loaded stay; what is not on this page and newer than its end is gone.
    const older = this.sessions.filter(
      (one) => !fresh.has(one.session_id) && last !== undefined && one.created_at < last.created_at,
    );
    this.sessions = page.next === null ? page.sessions : [...page.sessions, ...older];
    if (older.length === 0 || page.next === null) this.next = page.next;
    this.#around.onChange();
  }

  /** Fetch the next page of the list. */
  async loadMore() {
    await this.#attempt(async () => {
      const page = await listSessions(this.next);
      this.sessions = [...this.sessions, ...page.sessions];
      this.next = page.next;
    });
  }

  /**
   * Show a session.
   * @param {string | null} sessionId Null for one that is still to be written.
   * @param {any} [snapshot] Its snapshot, if it is known.
   */
  open(sessionId, snapshot) {
    if (sessionId === (this.session?.sessionId ?? null)) return;
    this.session?.close();
    this.session = null;
    this.outgoing = [];
    this.picked = null;
    this.#around.onOpen();
    if (sessionId !== null) {
      const opening = { transport: this.transport, snapshot, onFrame: this.#seen.bind(this) };
      this.session = openSession(sessionId, { ...opening, onChange: () => this.#changed() });
    }
    this.#around.onChange();
  }

  /**
   * Say something; makes the session if there is none yet.
   * @param {string} text
   * @param {string} [policy] What becomes of the run that is active; by default it goes on.
   * @returns {Promise<boolean>} Whether the log has it. If not, the user was told why.
   */
  async send(text, policy = "enqueue") {
    return this.#attempt(async () => {
      const agent = this.agent;
      const session = this.session ?? (await this.#make(agent ?? "", text));
      const other = agent !== null && agent !== session.state?.agent ? { agent } : {};
      const id = newId();
      this.outgoing = [...this.outgoing, { id, text, runId: null }];
      this.#around.onChange();
      try {
        const { run_id: runId = null } = await session.submit({
          type: "send",
          id,
          text,
          policy,
          ...other,
        });
        this.outgoing = this.outgoing.map((one) => (one.id === id ? { ...one, runId } : one));
      } catch (failure) {
        this.outgoing = this.outgoing.filter((one) => one.id !== id);
        throw failure;
      }
      this.#changed();
    });
  }

  /**
   * Make a session and open it; two messages in quick succession make one.
   * @param {string} agent
   * @param {string} text What the first message says.
   * @returns {Promise<Session>}
   */
  async #make(agent, text) {
    this.#making ??= this.#create(agent, text.slice(0, TITLE_LENGTH));
    const snapshot = await this.#making.finally(() => {
      this.#making = null;
    });
    this.open(snapshot.session_id, snapshot);
    this.#around.navigate(snapshot.session_id);
    this.refreshSessions();
    return /** @type {Session} */ (this.session);
  }

  /**
   * @param {string} agent
   * @param {string} title
   * @returns {Promise<any>} The snapshot of the new session.
   */
  async #create(agent, title) {
    if (this.#wanted?.agent !== agent || this.#wanted.title !== title)
      this.#wanted = { id: newId(), agent, title };
    const snapshot = await createSession(agent, title, this.#wanted.id);
    this.#wanted = null;
    return snapshot;
  }

  /** Stop the active run; what it has said so far stays. */
  stop() {
    return this.#command({ type: "cancel" });
  }

  /** Go on after a stopped or failed run. */
  proceed() {
    return this.#command({ type: "continue", run_id: this.session?.state?.run?.run_id });
  }

  /** @param {{drop?: readonly string[], order?: readonly string[]}} change What waits no more, or first. */
  editQueue(change) {
    return this.#command({ type: "edit_queue", ...change });
  }

  /**
   * @param {string | null} runId The run that waits.
   * @param {import("./view-approval.js").Decision} decision
   */
  decide(runId, decision) {
    return this.#command({ type: "continue", run_id: runId ?? undefined, decisions: [decision] });
  }

  /** @param {TransportName} transport */
  choose(transport) {
    this.transport = transport;
    this.session?.switchTo(transport);
    this.#around.onChange();
  }

  /** @param {string} sessionId */
  async remove(sessionId) {
    await this.#attempt(async () => {
      await deleteSession(sessionId);
      this.sessions = this.sessions.filter(({ session_id: id }) => id !== sessionId);
      if (this.session?.sessionId === sessionId) this.#around.navigate(null);
    });
  }

  /** @param {{type: string, [field: string]: any}} fields */
  async #command(fields) {
    await this.#attempt(async () => {
      await this.session?.submit(fields);
    });
  }

  /**
   * @param {() => Promise<void>} act
   * @returns {Promise<boolean>} Whether it worked; if not, the user was told.
   */
  async #attempt(act) {
    const session = this.session;
    try {
      await act();
      return true;
    } catch (failure) {
      // Whoever left the session need not hear that it was left.
      if (session === null || session === this.session) {
        this.#around.report(failure instanceof Error ? failure.message : String(failure));
      }
      return false;
    } finally {
      this.#around.onChange();
    }
  }

  /** @param {Frame} frame */
  #seen(frame) {
    this.outgoing = withoutSeen(this.outgoing, frame);
    this.#around.onFrame(frame);
  }

  #changed() {
    const state = this.session?.state ?? null;
    this.outgoing = withoutKnown(this.outgoing, state);
    const status = state?.status;
    this.sessions = this.sessions.map((one) =>
      one.session_id === state?.sessionId && one.status !== status && status !== undefined
        ? { ...one, status }
        : one,
    );
    this.#around.onChange();
  }
}
