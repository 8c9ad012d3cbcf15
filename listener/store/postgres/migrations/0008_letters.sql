-- The fleet's list of dead letters: what each listener wrote to its file, and what became of it.
-- heals: whether listeners may retry it by themselves; heal_at: from when on, null if a human is needed.
-- heal_base: how many probes of its group had failed when it was shipped, so what was tried since is their difference.
CREATE TABLE letters (
    letter_id text COLLATE "C" PRIMARY KEY,
    instance_id text NOT NULL,
    event_id text,
    type text,
    reason text NOT NULL,
    error_class text NOT NULL,
    stage text NOT NULL,
    error_type text NOT NULL,
    message text NOT NULL,
    fingerprint text NOT NULL,
    handler text,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    shipped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'failed', 'resolved', 'archived', 'quarantined')),
    replays integer NOT NULL DEFAULT 0,
    state_at timestamptz,
    detail text NOT NULL DEFAULT '',
    state_error_type text,
    state_by text NOT NULL DEFAULT '',
    reopened_at timestamptz,
    heals boolean NOT NULL DEFAULT false,
    heal_at timestamptz,
    heal_base bigint NOT NULL DEFAULT 0
);

-- The line of the file, byte for byte: also of an event that jsonb would refuse. Apart, because states change often.
CREATE TABLE letter_lines (
    letter_id text COLLATE "C" PRIMARY KEY,
    line bytea NOT NULL
);

-- Everything that happened to a letter. shared: the listener that wrote the letter has it in its own file too.
CREATE TABLE letter_records (
    letter_id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    what text NOT NULL,
    detail text NOT NULL DEFAULT '',
    error_type text,
    done_by text NOT NULL DEFAULT '',
    instance_id text NOT NULL,
    shared boolean NOT NULL,
    PRIMARY KEY (letter_id, at, what)
);

-- Sums of letters that failed alike, kept by the triggers below; and when listeners retry them.
-- probes: how many failed, ever; failures: how many in a row; healer: who retries them now.
CREATE TABLE letter_groups (
    fingerprint text PRIMARY KEY,
    reason text NOT NULL,
    error_class text NOT NULL,
    stage text NOT NULL,
    error_type text NOT NULL,
    message text NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    open bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    resolved bigint NOT NULL DEFAULT 0,
    archived bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    healing bigint NOT NULL DEFAULT 0,
    probes bigint NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    heal_at timestamptz NOT NULL DEFAULT '-infinity',
    healer text NOT NULL DEFAULT '',
    healer_until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

-- Who replays a letter now. Unlogged: cheap, and after a crash nobody does.
CREATE UNLOGGED TABLE letter_leases (
    letter_id text COLLATE "C" PRIMARY KEY,
    token text NOT NULL,
    holder text NOT NULL,
    until timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

-- The pages of lists, newest first; one event; what a replay takes, oldest first; what heals, the longest untried first.
CREATE INDEX letters_last_at ON letters (last_at, letter_id);
CREATE INDEX letters_fingerprint ON letters (fingerprint text_pattern_ops, last_at, letter_id);
CREATE INDEX letters_event ON letters (event_id);
CREATE INDEX letters_waiting ON letters (last_at, letter_id) WHERE status IN ('open', 'failed');
CREATE INDEX letters_healing ON letters (fingerprint, heal_at) WHERE heal_at IS NOT NULL;
CREATE INDEX letters_heal_at ON letters (heal_at) WHERE heal_at IS NOT NULL;
CREATE INDEX letters_resolved ON letters (state_at) WHERE status = 'resolved';
CREATE INDEX letter_records_to_share ON letter_records (instance_id) WHERE NOT shared;

CREATE FUNCTION count_letters() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO letter_groups AS g (
            fingerprint, reason, error_class, stage, error_type, message, first_at, last_at,
            open, failed, resolved, archived, quarantined, healing)
        SELECT fingerprint, min(reason), min(error_class), min(stage), min(error_type), min(message), min(first_at),
            max(last_at), count(*) FILTER (WHERE status = 'open'), count(*) FILTER (WHERE status = 'failed'),
            count(*) FILTER (WHERE status = 'resolved'), count(*) FILTER (WHERE status = 'archived'),
            count(*) FILTER (WHERE status = 'quarantined'), count(heal_at)
        FROM added GROUP BY fingerprint ORDER BY fingerprint
        ON CONFLICT (fingerprint) DO UPDATE SET
            first_at = least(g.first_at, excluded.first_at), last_at = greatest(g.last_at, excluded.last_at),
            open = g.open + excluded.open, failed = g.failed + excluded.failed,
            resolved = g.resolved + excluded.resolved, archived = g.archived + excluded.archived,
            quarantined = g.quarantined + excluded.quarantined, healing = g.healing + excluded.healing;
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        PERFORM FROM letter_groups WHERE fingerprint IN (SELECT fingerprint FROM gone) ORDER BY fingerprint FOR UPDATE;
        UPDATE letter_groups g SET open = g.open - d.open, failed = g.failed - d.failed,
            resolved = g.resolved - d.resolved, archived = g.archived - d.archived,
            quarantined = g.quarantined - d.quarantined, healing = g.healing - d.healing
        FROM (
            SELECT fingerprint, count(*) FILTER (WHERE status = 'open') AS open,
                count(*) FILTER (WHERE status = 'failed') AS failed,
                count(*) FILTER (WHERE status = 'resolved') AS resolved,
                count(*) FILTER (WHERE status = 'archived') AS archived,
                count(*) FILTER (WHERE status = 'quarantined') AS quarantined, count(heal_at) AS healing
            FROM gone GROUP BY fingerprint) d
        WHERE g.fingerprint = d.fingerprint;
        RETURN NULL;
    END IF;
    -- In one order, so that two transactions cannot wait for each other.
    PERFORM FROM letter_groups WHERE fingerprint IN (SELECT fingerprint FROM added) ORDER BY fingerprint FOR UPDATE;
    UPDATE letter_groups g SET open = g.open + d.open, failed = g.failed + d.failed,
        resolved = g.resolved + d.resolved, archived = g.archived + d.archived,
        quarantined = g.quarantined + d.quarantined, healing = g.healing + d.healing
    FROM (
        SELECT fingerprint, sum(n) FILTER (WHERE status = 'open') AS open,
            sum(n) FILTER (WHERE status = 'failed') AS failed, sum(n) FILTER (WHERE status = 'resolved') AS resolved,
            sum(n) FILTER (WHERE status = 'archived') AS archived,
            sum(n) FILTER (WHERE status = 'quarantined') AS quarantined, sum(n) FILTER (WHERE heals) AS healing
        FROM (
            SELECT fingerprint, status, heal_at IS NOT NULL AS heals, 1 AS n FROM added
            UNION ALL SELECT fingerprint, status, heal_at IS NOT NULL, -1 FROM gone
            -- so that each sum has something to add up
            UNION ALL SELECT a.fingerprint, s, true, 0 FROM (SELECT DISTINCT fingerprint FROM added) a
                CROSS JOIN unnest(array['open', 'failed', 'resolved', 'archived', 'quarantined']) s) changed
        GROUP BY fingerprint) d
    WHERE g.fingerprint = d.fingerprint;
    RETURN NULL;
END $$;

CREATE TRIGGER count_added AFTER INSERT ON letters REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION count_letters();
CREATE TRIGGER count_gone AFTER DELETE ON letters REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION count_letters();
CREATE TRIGGER count_changed AFTER UPDATE ON letters REFERENCING OLD TABLE AS gone NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION count_letters();
