-- Of a session there may be two states: the one that its log begins with, and the latest. Those of
-- before have another form; no log was trimmed yet, so each can be folded from its beginning.
DROP TABLE snapshot;
CREATE TABLE snapshot (
    session INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    epoch   TEXT NOT NULL,
    tag     TEXT NOT NULL,
    state   BLOB NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT;

-- Entries that nobody can read any more and that still take room: of a session, up to a `seq`.
-- The session may be deleted; its number is not given again as long as it is here.
CREATE TABLE dropped (
    session INTEGER PRIMARY KEY,
    through INTEGER NOT NULL
) STRICT;

-- What there was before has its lifetime before it.
ALTER TABLE answer ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
UPDATE answer SET at = strftime('%s', 'now') * 1000;
CREATE INDEX answer_by_age ON answer (at);

ALTER TABLE tombstone ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
UPDATE tombstone SET at = strftime('%s', 'now') * 1000;
CREATE INDEX tombstone_by_age ON tombstone (at);

-- When a client last got a subscription or a checkpoint.
CREATE TABLE client (
    client_id TEXT PRIMARY KEY,
    seen_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO client
    SELECT client_id, strftime('%s', 'now') * 1000
    FROM (SELECT client_id FROM subscription UNION SELECT client_id FROM checkpoint);
CREATE INDEX client_by_age ON client (seen_at);
