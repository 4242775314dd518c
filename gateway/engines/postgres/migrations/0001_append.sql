-- Appends as functions, so that one round trip and one statement do a whole batch: a process that
-- stops in the middle can hold no lock. A function that has to change is added under a new name, as
-- older processes go on calling the old one.

-- Connections that a process has given up. What was sent on them and has not been done by then is
-- not done any more.
CREATE TABLE retired (
    lane bigint PRIMARY KEY,
    at   bigint NOT NULL
);

-- Does a batch of writes, at most one for each session, each by itself as `gateway.engines.rules`
-- says: one that is refused does not hinder the others. Arrays in which all is NULL may be NULL.
--
-- verdicts: 0 there is no such session, 1 it was deleted, 2 refused or repeated, 3 done.
-- epochs, seqs, tags: the tail before the write. ats: the time of what it wrote.
-- left_alone: there is a run now that nobody works on.
-- standings: of those with verdict 2, by their place in the batch, what `rules.judge` has to know.
CREATE FUNCTION append_writes(
    p_lane            bigint,   -- a number that belongs to this connection alone
    p_now             bigint,   -- NULL: by this database's clock
    p_lease           bigint,   -- milliseconds that a claim holds
    p_session_ids     text[],
    p_tags            text[],   -- one for each write
    p_counts          integer[],-- of entries
    p_starts          integer[],-- how many entries of other writes come before in p_bodies
    p_create_digests  text[],   -- NULL: do not create
    p_create_agents   text[],
    p_create_metadata bytea[],
    p_create_epochs   text[],
    p_expect_epochs   text[],   -- NULL: whatever the tail is
    p_expect_seqs     bigint[],
    p_expect_tags     text[],
    p_fence_runs      text[],
    p_fence_attempts  integer[],
    p_fence_nonces    text[],   -- NULL: without a fence
    p_claim_runs      text[],
    p_claim_attempts  integer[],
    p_claim_nonces    text[],   -- NULL: no new claim
    p_releases        boolean[],
    p_commands        text[],   -- NULL: no answer to remember
    p_command_digests text[],
    p_command_runs    text[],
    p_statuses        text[],
    p_titles          text[],
    p_judged          boolean[],
    p_bodies          bytea[],  -- of all writes, one after the other
    OUT verdicts      integer[],
    OUT epochs        text[],
    OUT seqs          bigint[],
    OUT tags          text[],
    OUT ats           bigint[],
    OUT left_alone    boolean[],
    OUT standings     json
)
LANGUAGE plpgsql VOLATILE
-- Each row is found by a key. The plan must not depend on what the statistics say, which are old
-- when tables grow fast.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    moment  bigint := coalesce(p_now, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint);
    created text[];
    numbers bigint[];
BEGIN
    -- Each statement has to see what was committed before it began.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'appends need the isolation level read committed';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(p_lane);
    IF EXISTS (SELECT FROM retired WHERE lane = p_lane) THEN
        RAISE EXCEPTION 'this connection was given up' USING ERRCODE = 'connection_exception';
    END IF;

    IF p_create_digests IS NOT NULL THEN
        -- In the order of ids, as whoever makes the same ones at the same time waits here.
        WITH made AS (
            INSERT INTO session (
                session_id, agent, metadata, digest, status, created_at, epoch, start_seq, start_tag,
                tail_seq, tail_tag, tail_at, last_write
            )
            SELECT new.session_id, new.agent, new.metadata, new.digest, 'idle', moment, new.epoch,
                0, '00000000', 0, '00000000', moment, new.tag
            FROM unnest(
                p_session_ids, p_tags, p_create_digests, p_create_agents, p_create_metadata,
                p_create_epochs
            ) AS new (session_id, tag, digest, agent, metadata, epoch)
            WHERE new.digest IS NOT NULL
                AND NOT EXISTS (SELECT FROM tombstone WHERE tombstone.session_id = new.session_id)
            ORDER BY new.session_id
            ON CONFLICT (session_id) DO NOTHING
            RETURNING session_id
        )
        SELECT array_agg(session_id) INTO created FROM made;
        IF EXISTS (SELECT FROM tombstone WHERE session_id = ANY (created)) THEN
            -- There was one, and it was deleted between the look at the tombstones and the insert.
            DELETE FROM session WHERE session_id IN (
                SELECT session_id FROM tombstone WHERE session_id = ANY (created)
            );
        END IF;
    END IF;

    -- All who lock several sessions do it in the order of ids, so none waits for another in a circle.
    PERFORM FROM session WHERE session_id = ANY (p_session_ids) ORDER BY session_id FOR NO KEY UPDATE;
    moment := coalesce(p_now, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint);

    WITH judged AS MATERIALIZED (
        SELECT
            w.place, w.tag, w.entries, w.claim_run, w.claim_attempt, w.claim_nonce,
            coalesce(w.release, false) AS release, w.command, w.command_digest, w.command_run,
            w.status AS new_status, w.title AS new_title, w.judged AS new_judged,
            s.number, s.epoch, s.tail_seq, s.tail_tag, s.status, s.digest, s.claim_run_id,
            s.claim_attempt AS held_attempt, s.claim_nonce AS held_nonce,
            greatest(s.tail_at, moment) AS at,
            a.digest AS said_digest, a.run_id AS said_run, a.seq AS said_seq, a.tag AS said_tag,
            CASE
                WHEN s.number IS NULL THEN CASE
                    WHEN w.create_digest IS NOT NULL THEN 1
                    WHEN EXISTS (SELECT FROM tombstone t WHERE t.session_id = w.session_id) THEN 1
                    ELSE 0
                END
                WHEN w.session_id = ANY (created) THEN 3
                WHEN w.create_digest IS NOT NULL THEN 2
                WHEN a.digest IS NOT NULL THEN 2
                WHEN w.fence_nonce IS NOT NULL
                    AND (w.fence_run, w.fence_attempt, w.fence_nonce)
                        IS DISTINCT FROM (s.claim_run_id, s.claim_attempt, s.claim_nonce) THEN 2
                WHEN w.claim_nonce IS NOT NULL AND w.fence_nonce IS NULL
                    AND s.claim_nonce IS NOT NULL THEN 2
                WHEN w.expect_epoch IS NOT NULL
                    AND (w.expect_epoch, w.expect_seq, w.expect_tag)
                        IS DISTINCT FROM (s.epoch, s.tail_seq, s.tail_tag) THEN 2
                ELSE 3
            END AS verdict
        FROM unnest(
            p_session_ids, p_tags, p_counts, p_create_digests, p_expect_epochs, p_expect_seqs,
            p_expect_tags, p_fence_runs, p_fence_attempts, p_fence_nonces, p_claim_runs,
            p_claim_attempts, p_claim_nonces, p_releases, p_commands, p_command_digests,
            p_command_runs, p_statuses, p_titles, p_judged
        ) WITH ORDINALITY AS w (
            session_id, tag, entries, create_digest, expect_epoch, expect_seq, expect_tag, fence_run,
            fence_attempt, fence_nonce, claim_run, claim_attempt, claim_nonce, release, command,
            command_digest, command_run, status, title, judged, place
        )
        LEFT JOIN session s ON s.session_id = w.session_id
        LEFT JOIN answer a ON a.session = s.number AND a.command_id = w.command
    ), updated AS (
        UPDATE session SET
            tail_seq = j.tail_seq + j.entries,
            tail_tag = CASE WHEN j.entries > 0 THEN j.tag ELSE j.tail_tag END,
            tail_at = j.at,
            last_write = j.tag,
            status = coalesce(j.new_status, j.status),
            title = coalesce(j.new_title, session.title),
            claim_run_id = CASE WHEN j.claim_nonce IS NOT NULL THEN j.claim_run
                WHEN NOT j.release THEN j.claim_run_id END,
            claim_attempt = CASE WHEN j.claim_nonce IS NOT NULL THEN j.claim_attempt
                WHEN NOT j.release THEN j.held_attempt END,
            claim_nonce = CASE WHEN j.claim_nonce IS NOT NULL THEN j.claim_nonce
                WHEN NOT j.release THEN j.held_nonce END,
            claim_until = CASE WHEN j.claim_nonce IS NOT NULL THEN moment + p_lease
                WHEN j.release OR (j.new_status = 'running' AND j.held_nonce IS NULL) THEN moment
                ELSE session.claim_until END,
            reserved_until = CASE WHEN j.claim_nonce IS NOT NULL OR j.release THEN 0
                ELSE session.reserved_until END,
            judged = coalesce(j.new_judged, session.judged)
        FROM judged j
        WHERE session.number = j.number AND j.verdict = 3
    ), answered AS (
        INSERT INTO answer (session, command_id, digest, run_id, seq, tag, at)
        SELECT number, command, command_digest, command_run,
            tail_seq + least(entries, 1), CASE WHEN entries > 0 THEN tag ELSE tail_tag END, moment
        FROM judged WHERE verdict = 3 AND command IS NOT NULL
    )
    SELECT
        array_agg(coalesce(number, 0) ORDER BY place),
        array_agg(verdict ORDER BY place),
        array_agg(epoch ORDER BY place),
        array_agg(coalesce(tail_seq, 0) ORDER BY place),
        array_agg(tail_tag ORDER BY place),
        array_agg(coalesce(at, 0) ORDER BY place),
        array_agg(
            verdict = 3 AND coalesce(new_status, status) = 'running' AND claim_nonce IS NULL
            AND (release OR held_nonce IS NULL)
            ORDER BY place
        ),
        json_object_agg(
            place,
            json_build_array(
                digest, claim_run_id, held_attempt, held_nonce, said_digest, said_run, said_seq,
                said_tag
            )
        ) FILTER (WHERE verdict = 2)
    INTO numbers, verdicts, epochs, seqs, tags, ats, left_alone, standings
    FROM judged;

    IF p_bodies IS NOT NULL THEN
        INSERT INTO entry (session, seq, tag, at, body)
        SELECT w.session, w.seq + e.nth, w.tag, w.at, e.body
        FROM unnest(verdicts, numbers, seqs, p_tags, ats, p_counts, p_starts)
            AS w (verdict, session, seq, tag, at, entries, start)
        CROSS JOIN LATERAL unnest(p_bodies[w.start + 1 : w.start + w.entries])
            WITH ORDINALITY AS e (body, nth)
        WHERE w.verdict = 3;
    END IF;
END
$$;

-- Gives up a connection that was lost, and says what became of the writes that were sent on it last.
-- It waits for those that are being done; what has not begun is never done. As it writes, its commit
-- waits for standbys where commits have to: then so are the writes that it tells of.
--
-- seq: of the write's first entry; NULL: there is none. before: the tag before it.
-- is_last: nothing was written since. is_claim: the session's claim is the one that it gave.
CREATE FUNCTION settle_writes(
    p_lane         bigint,
    p_session_ids  text[],
    p_tags         text[],
    p_claim_nonces text[]
)
RETURNS TABLE (
    epoch      text,
    seq        bigint,
    at         bigint,
    before     text,
    tail_seq   bigint,
    tail_tag   text,
    is_last    boolean,
    is_claim   boolean,
    left_alone boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    moment bigint := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(p_lane);
    INSERT INTO retired (lane, at) VALUES (p_lane, moment)
        ON CONFLICT (lane) DO UPDATE SET at = excluded.at;
    DELETE FROM retired WHERE at < moment - 86400000;
    RETURN QUERY
    SELECT s.epoch, e.seq, e.at, coalesce(b.tag, s.start_tag), s.tail_seq, s.tail_tag,
        coalesce(s.last_write = w.tag, false), coalesce(s.claim_nonce = w.claim_nonce, false),
        coalesce(s.status = 'running' AND s.claim_nonce IS NULL, false)
    FROM unnest(p_session_ids, p_tags, p_claim_nonces) WITH ORDINALITY
        AS w (session_id, tag, claim_nonce, place)
    LEFT JOIN session s ON s.session_id = w.session_id
    LEFT JOIN LATERAL (
        SELECT entry.seq, entry.at FROM entry
        WHERE entry.session = s.number AND entry.tag = w.tag ORDER BY entry.seq LIMIT 1
    ) e ON true
    LEFT JOIN entry b ON b.session = s.number AND b.seq = e.seq - 1
    ORDER BY w.place;
END
$$;
