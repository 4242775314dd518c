-- A claim holds until its lease is over, and no longer than one life of the store.
ALTER TABLE session ADD COLUMN claim_life  TEXT;     -- NULL: of a version without leases
ALTER TABLE session ADD COLUMN claim_until INTEGER;

-- Runs that a process let go of have no claim.
CREATE INDEX session_running ON session (number) WHERE status = 'running';
