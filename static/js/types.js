// @ts-check
/**
 * @file The shapes that the page's modules share. Types only; nothing runs here.
 *
 * Names with underscores are the wire's own (PROTOCOL.md); camel case is the page's.
 */

/**
 * One event or control object of the wire. `seq` and `cursor` are absent on control objects.
 * @typedef {{type: string, seq?: number, cursor?: string, run_id?: string, session_id?: string,
 *   ts?: string, [field: string]: any}} Frame
 */

/**
 * What the page sends; `id` makes it safe to send again.
 * @typedef {{type: string, id: string, [field: string]: any}} Command
 */

/** @typedef {{id: string, run_id?: string, cursor?: string, [field: string]: any}} Ack */

/**
 * @typedef {{prompt_tokens: number, completion_tokens: number, total_tokens: number}} Usage
 */

/** @typedef {"streaming" | "complete" | "incomplete" | "superseded"} MessageStatus */

/** @typedef {import("./path.js").Path} Path */

/**
 * `path` is null for the run's own agent (path.js); `final` says that the model's step is done, so
 * that no take-over says the message anew.
 * @typedef {{kind: "message", key: string, messageId: string, role: string, text: string,
 *   status: MessageStatus, runId: string | null, agent: string | null, turn: number | null,
 *   path: Path | null, final: boolean}} MessageItem
 */

/**
 * @typedef {{kind: "reasoning", key: string, messageId: string, text: string,
 *   status: "streaming" | "complete", runId: string | null, path: Path | null}} ReasoningItem
 */

/** @typedef {"writing" | "ready" | "running" | "completed" | "failed" | "unknown"} ToolStatus */

/**
 * `messageId` is that of the answer that made the call, as far as it is known.
 * @typedef {{kind: "tool", key: string, callId: string, name: string, arguments: string,
 *   messageId: string | null, status: ToolStatus, progress: any, result: any,
 *   error: {message: string} | null, durationMs: number | null, runId: string | null,
 *   path: Path | null}} ToolItem
 */

/**
 * `wants` is "result" where a tool of a client's was called, and what came of it is asked for.
 * @typedef {{kind: "approval", key: string, approvalId: string, callId: string | null,
 *   node: string | null, tool: string | null, arguments: string | null, reason: string | null,
 *   wants: "result" | null, decision: string | null, message: string | null, result: any,
 *   runId: string | null, path: Path | null}} ApprovalItem
 */

/** @typedef {"running" | "interrupted" | "completed" | "failed" | "skipped"} NodeStatus */

/**
 * A node of a graph, the last time that it ran; `path` is that of its graph, `visited` the number
 * of items before it began.
 * @typedef {{key: string, node: string, path: Path, status: NodeStatus, superstep: number | null,
 *   times: number, progress: any, error: {message: string} | null,
 *   durationMs: number | null, visited: number}} GraphNode
 */

/**
 * A graph that runs, with the graphs inside it.
 * @typedef {{kind: "graph", key: string, name: string, nodes: readonly GraphNode[], over: boolean,
 *   runId: string | null, path: Path}} GraphItem
 */

/** @typedef {MessageItem | ReasoningItem | ToolItem | ApprovalItem | GraphItem} Item */

/**
 * What an agent says that was called as a tool.
 * @typedef {{kind: "nested", key: string, name: string, depth: number,
 *   items: readonly Item[]}} NestedItem
 */

/**
 * @typedef {{run_id: string, status: string, attempt: number, agent: string | null,
 *   stopping: boolean, error: {code: string, message: string} | null}} Run
 */

/**
 * An input that waits: for its turn, or for the next step of the active run (`steer`).
 * @typedef {{run_id: string, command_id: string, text: string, message_id: string,
 *   policy: "enqueue" | "steer"}} Queued
 */

/**
 * What the page knows of a session: the fold of its log up to `cursor`.
 *
 * `seq` is the place of the last applied event; null right after a snapshot, because a cursor is
 * opaque and the next event says where the log stands.
 * @typedef {{sessionId: string, agent: string, status: string, cursor: string,
 *   seq: number | null, run: Run | null, items: readonly Item[], queue: readonly Queued[],
 *   usage: Usage | null, activity: string | null, title: string | null}} ViewState
 */

/** @typedef {"sse" | "websocket"} TransportName */

/**
 * Why a connection ended. `reconnect: false` means that trying again as we are is useless;
 * `forgetCursor` that the server cannot read the cursor; `floorSeconds` that it is busy for so long;
 * `reason` is for people, `code` the same in the server's stable word (absent: the session is over).
 * @typedef {{reconnect: boolean, reason: string, code?: string, forgetCursor?: boolean,
 *   floorSeconds?: number}} Down
 */

/**
 * What a transport is given. After `close()` it calls none of these any more.
 *
 * `onUp`: the stream was accepted; with the seconds between signs of life, as far as announced.
 * `onAlive`: bytes came, whatever they say. `onRetry`: the stream's `retry:` field, in seconds.
 * @typedef {{sessionId: string, after: string | null, onUp: (heartbeatSeconds?: number) => void,
 *   onAlive: () => void, onRetry: (seconds: number) => void, onFrame: (frame: Frame) => void,
 *   onDown: (down: Down) => void}} Listener
 */

/**
 * One connection. `send` answers with the ack, or fails with `ConnectionLost` when the command
 * may or may not have arrived, or with `Refused` when the server said no. `probe` asks for a sign
 * of life, if the server gives none by itself.
 * @typedef {{send: (command: Command) => Promise<Ack>, probe: () => void, close: () => void}}
 *   Connection
 */

/** @typedef {(listener: Listener) => Connection} Transport */

/**
 * @typedef {{state: "connecting" | "connected" | "reconnecting" | "offline" | "stopped",
 *   transport: TransportName, attempt: number, reconnects: number, retryInSeconds: number | null,
 *   reason: string | null, code: string | null, duplicates: number}} ConnectionStatus
 */

/**
 * The nodes of a graph: with which it starts, and where each may go.
 * @typedef {{start: readonly string[], edges: Record<string, readonly string[]>}} GraphShape
 */

/**
 * @typedef {{name: string, kind: string, description: string, graph?: GraphShape,
 *   tools: {name: string, description?: string}[]}} AgentInfo
 */

/**
 * @typedef {{session_id: string, agent: string, status: string, created_at: string,
 *   title?: string | null, metadata?: {title?: string} | null}} SessionSummary
 */

export {};
