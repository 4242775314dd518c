-- A session: its record, its claim and both ends of its log. `number` gives the order of creation.
CREATE TABLE session (
    number        INTEGER PRIMARY KEY,
    session_id    TEXT NOT NULL UNIQUE,
    agent         TEXT NOT NULL,
    metadata      BLOB NOT NULL,              -- JSON object
    digest        TEXT NOT NULL,
    status        TEXT NOT NULL,
    title         TEXT,
    created_at    INTEGER NOT NULL,           -- milliseconds since 1970 UTC, as all times here
    claim_run_id  TEXT,
    claim_attempt INTEGER,
    claim_nonce   TEXT,                       -- NULL: no claim
    epoch         TEXT NOT NULL,
    start_seq     INTEGER NOT NULL,           -- right before the first entry that is kept
    start_tag     TEXT NOT NULL,
    tail_seq      INTEGER NOT NULL,
    tail_tag      TEXT NOT NULL,
    tail_at       INTEGER NOT NULL
) STRICT;

CREATE INDEX session_claimed ON session (number) WHERE claim_nonce IS NOT NULL;

-- Ids that were used and deleted; they stay taken.
CREATE TABLE tombstone (
    session_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE entry (
    session INTEGER NOT NULL,                 -- session.number
    seq     INTEGER NOT NULL,
    tag     TEXT NOT NULL,
    at      INTEGER NOT NULL,
    body    BLOB NOT NULL,                    -- one line of JSON
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE answer (
    session    INTEGER NOT NULL,
    command_id TEXT NOT NULL,
    digest     TEXT NOT NULL,
    run_id     TEXT,
    seq        INTEGER NOT NULL,              -- position in the session's log
    tag        TEXT NOT NULL,
    PRIMARY KEY (session, command_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshot (
    session INTEGER PRIMARY KEY,
    epoch   TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    tag     TEXT NOT NULL,
    state   BLOB NOT NULL
) STRICT;

CREATE TABLE subscription (
    client_id  TEXT NOT NULL,
    session_id TEXT NOT NULL,
    cursor     TEXT NOT NULL,
    PRIMARY KEY (client_id, session_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX subscription_of_session ON subscription (session_id);

-- `number` gives the order of saving; only the latest of each client are kept.
CREATE TABLE checkpoint (
    number        INTEGER PRIMARY KEY,
    client_id     TEXT NOT NULL,
    checkpoint_id TEXT NOT NULL,
    cursors       BLOB NOT NULL,              -- JSON object: session id to cursor
    UNIQUE (client_id, checkpoint_id)
) STRICT;

CREATE INDEX checkpoint_of_client ON checkpoint (client_id, number);
