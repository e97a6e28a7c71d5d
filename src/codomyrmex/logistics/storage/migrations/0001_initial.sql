-- The first schema. Instants are integer microseconds since 1970 UTC; JSON is text; values are tagged JSON.

-- One row per open or past engine process. Its id is the epoch that fences what it writes.
CREATE TABLE engine (
    epoch      INTEGER PRIMARY KEY AUTOINCREMENT,
    token      TEXT    NOT NULL UNIQUE,        -- stands in the environment of everything it starts
    host       TEXT    NOT NULL,
    boot_id    TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,              -- renewed while it lives; what other hosts go by
    ended_at   INTEGER                         -- set when it closed, or when another engine found it dead: the
                                               -- fence, because the journal takes no line of an ended engine
);

-- Every definition that was ever run or registered, by the hash of its canonical text.
CREATE TABLE definition (
    hash       TEXT    PRIMARY KEY,
    name       TEXT    NOT NULL,
    body       BLOB    NOT NULL,               -- canonical JSON, zlib
    created_at INTEGER NOT NULL
);

-- Names under which `run NAME` finds a definition that is in no file.
CREATE TABLE registered_workflow (
    name       TEXT    PRIMARY KEY,
    hash       TEXT    NOT NULL REFERENCES definition(hash),
    updated_at INTEGER NOT NULL
);

CREATE TABLE run (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    workflow   TEXT    NOT NULL,
    definition TEXT    NOT NULL REFERENCES definition(hash),
    status     TEXT    NOT NULL,               -- WorkflowStatus
    intent     TEXT    NOT NULL DEFAULT 'none',-- none | cancel | kill
    epoch      INTEGER NOT NULL,               -- the engine that owns it
    parameters TEXT    NOT NULL,
    options    TEXT    NOT NULL,               -- root, import roots, file, interpreter, limits
    outputs    TEXT,
    error      TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at   INTEGER
);
CREATE INDEX run_live ON run(status) WHERE status IN ('pending', 'running', 'paused');
CREATE INDEX run_by_workflow ON run(workflow, number);

-- A task has a row from the moment it first leaves the states that follow from the definition alone
-- (blocked on dependencies, or pending for the first time): the absence of a row says just that.
CREATE TABLE task (
    run        INTEGER NOT NULL,
    position   INTEGER NOT NULL,               -- step number, or a place in a fan_out range
    state      TEXT    NOT NULL,               -- TaskStatus
    reason     TEXT,                           -- of a blocked, skipped or cancelled task
    attempt    INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,               -- with attempt: the fencing token
    crashes    INTEGER NOT NULL DEFAULT 0,     -- of its own
    losses     INTEGER NOT NULL DEFAULT 0,     -- engine deaths in a row while it ran
    ready_at   INTEGER,                        -- of a task that waits for a timer
    started_at INTEGER,
    ended_at   INTEGER,
    result     BLOB,                           -- tagged JSON
    check_sum  INTEGER,                        -- CRC-32 of result
    error      TEXT,
    PRIMARY KEY (run, position)
) WITHOUT ROWID;

-- The expansion of a fan-out step: items take the places first .. first + size - 1.
CREATE TABLE fan_out (
    run        INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    first      INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    items      BLOB    NOT NULL,               -- tagged JSON list
    check_sum  INTEGER NOT NULL,
    PRIMARY KEY (run, step)
) WITHOUT ROWID;

-- Attempts that did not end in a recorded result; the last and successful one is in the task row.
CREATE TABLE attempt (
    run        INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    outcome    TEXT    NOT NULL,
    started_at INTEGER,
    ended_at   INTEGER NOT NULL,
    error      TEXT,
    PRIMARY KEY (run, position, number, epoch)
) WITHOUT ROWID;

-- The journal. One row holds what one transaction told of one run, in order: a JSON list of
-- [kind, position or null, ...]. Written in the transaction that made the change; never changed.
CREATE TABLE event (
    run        INTEGER NOT NULL,
    sequence   INTEGER NOT NULL,               -- 1, 2, 3 ... within the run
    at         INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    body       TEXT    NOT NULL,
    PRIMARY KEY (run, sequence)
) WITHOUT ROWID;
CREATE TRIGGER event_is_append_only BEFORE UPDATE ON event
BEGIN
    SELECT RAISE(ABORT, 'the journal is append-only');
END;

-- What clients ask of the engine that owns a run.
CREATE TABLE intent (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    run        INTEGER NOT NULL,
    kind       TEXT    NOT NULL,               -- cancel | kill
    by         TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    handled_at INTEGER
);
CREATE INDEX intent_open ON intent(run) WHERE handled_at IS NULL;

CREATE TABLE meta (
    key        TEXT PRIMARY KEY,
    value      TEXT NOT NULL
);
