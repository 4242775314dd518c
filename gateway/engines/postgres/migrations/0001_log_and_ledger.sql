-- All times are milliseconds since 1970 UTC, by the clock of this database.

-- A session: its record, its claim and both ends of its log. `number` gives the order of creation.
-- Each append changes its row, so the page keeps room for the new version beside the old one; no
-- column that an append changes is in an index.
CREATE TABLE session (
    number         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id     text COLLATE "C" NOT NULL UNIQUE,
    agent          text NOT NULL,
    metadata       bytea NOT NULL,                -- JSON object
    digest         text NOT NULL,
    status         text NOT NULL,
    title          text,
    created_at     bigint NOT NULL,
    epoch          text NOT NULL,
    start_seq      bigint NOT NULL,               -- right before the first entry that is kept
    start_tag      text NOT NULL,
    tail_seq       bigint NOT NULL,
    tail_tag       text NOT NULL,
    tail_at        bigint NOT NULL,
    last_write     text NOT NULL,                 -- the tag of the last append, also of one without entries
    claim_run_id   text,
    claim_attempt  integer,
    claim_nonce    text,                          -- NULL: no claim
    claim_until    bigint,                        -- when its lease is over; without a claim, since when
                                                  -- nobody works on the run
    reserved_until bigint NOT NULL DEFAULT 0,     -- until then, somebody else is about to take the run over
    judged         boolean NOT NULL DEFAULT false -- it has runs that end when nobody controls it
) WITH (fillfactor = 50);

CREATE INDEX session_claimed ON session (number) WHERE claim_nonce IS NOT NULL;
CREATE INDEX session_waiting ON session (number) WHERE claim_nonce IS NULL AND status = 'running';

-- Ids that were used and deleted; they stay taken for a while.
CREATE TABLE tombstone (
    session_id text COLLATE "C" PRIMARY KEY,
    at         bigint NOT NULL
);
CREATE INDEX tombstone_by_age ON tombstone (at);

CREATE TABLE entry (
    session bigint NOT NULL,                      -- session.number
    seq     bigint NOT NULL,
    tag     text NOT NULL,
    at      bigint NOT NULL,
    body    bytea NOT NULL,                       -- one line of JSON
    PRIMARY KEY (session, seq)
);

-- Entries that nobody can read any more and that still take room: of a session, up to a `seq`. The
-- session may be deleted.
CREATE TABLE dropped (
    session bigint PRIMARY KEY,
    through bigint NOT NULL
);

CREATE TABLE answer (
    session    bigint NOT NULL,
    command_id text COLLATE "C" NOT NULL,
    digest     text NOT NULL,
    run_id     text,
    seq        bigint NOT NULL,                   -- position in the session's log
    tag        text NOT NULL,
    at         bigint NOT NULL,
    PRIMARY KEY (session, command_id)
);
CREATE INDEX answer_by_age ON answer (at);

-- Of a session there may be two states: the one that its log begins with, and the latest.
CREATE TABLE snapshot (
    session bigint NOT NULL,
    seq     bigint NOT NULL,
    epoch   text NOT NULL,
    tag     text NOT NULL,
    state   bytea NOT NULL,
    PRIMARY KEY (session, seq)
);

-- Until when a process said that it has controllers of a session; only of sessions that are judged.
CREATE TABLE presence (
    session bigint NOT NULL,
    node    text NOT NULL,
    until   bigint NOT NULL,
    PRIMARY KEY (session, node)
);

-- When a client last got a subscription or a checkpoint; `version` counts changes of its subscriptions.
CREATE TABLE client (
    client_id text COLLATE "C" PRIMARY KEY,
    seen_at   bigint NOT NULL,
    version   bigint NOT NULL DEFAULT 0
);
CREATE INDEX client_by_age ON client (seen_at);

CREATE TABLE subscription (
    client_id  text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    cursor     text NOT NULL,
    PRIMARY KEY (client_id, session_id)
);
CREATE INDEX subscription_of_session ON subscription (session_id);

-- `number` gives the order of saving; only the latest of each client are kept.
CREATE TABLE checkpoint (
    number        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id     text COLLATE "C" NOT NULL,
    checkpoint_id text NOT NULL,
    cursors       bytea NOT NULL,                 -- JSON object: session id to cursor
    UNIQUE (client_id, checkpoint_id)
);
CREATE INDEX checkpoint_of_client ON checkpoint (client_id, number);
