-- Phases of a run, steps that wait without a slot, child runs, and the cache of steps.

ALTER TABLE run ADD COLUMN phase TEXT NOT NULL DEFAULT 'main';  -- RunPhase
ALTER TABLE run ADD COLUMN outcome TEXT;              -- what main became, once that is decided
ALTER TABLE run ADD COLUMN stopping TEXT;             -- why nothing new starts in this phase
ALTER TABLE run ADD COLUMN parent INTEGER;            -- of a child: the number of the run that started it,
ALTER TABLE run ADD COLUMN parent_position INTEGER;   -- the task that stands for it there,
ALTER TABLE run ADD COLUMN parent_attempt INTEGER;    -- and which try of that task it is
ALTER TABLE run ADD COLUMN root INTEGER;              -- the number of the run at the top of its tree
ALTER TABLE run ADD COLUMN concurrency TEXT;          -- runs with the same key go one after the other
ALTER TABLE run ADD COLUMN policy TEXT;               -- ConcurrencyPolicy
ALTER TABLE run ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE run ADD COLUMN deadline_at INTEGER;       -- when main is stopped; moved on by a pause
ALTER TABLE run ADD COLUMN paused_at INTEGER;
ALTER TABLE run ADD COLUMN compensation TEXT;         -- the positions that undo, in their order
CREATE UNIQUE INDEX run_child ON run(parent, parent_position, parent_attempt) WHERE parent IS NOT NULL;
CREATE INDEX run_concurrency ON run(concurrency, number)
    WHERE concurrency IS NOT NULL AND status IN ('pending', 'running', 'paused');

-- What people are asked, and what they said. A row is written when the step is opened.
CREATE TABLE approval (
    run        INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    message    TEXT    NOT NULL,
    form       TEXT,                           -- JSON Schema of the answer's data
    who        TEXT    NOT NULL,               -- JSON list of names; empty: anybody
    opened_at  INTEGER NOT NULL,
    due_at     INTEGER,
    status     TEXT    NOT NULL,               -- open | approved | rejected | timed_out | withdrawn
    answer     TEXT,                           -- JSON
    answered_by TEXT,
    comment    TEXT,
    answered_at INTEGER,
    PRIMARY KEY (run, position)
) WITHOUT ROWID;
CREATE INDEX approval_open ON approval(opened_at) WHERE status = 'open';

-- Signals, latched: the last one of each name.
CREATE TABLE signal (
    run        INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    data       BLOB    NOT NULL,               -- tagged JSON
    by         TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;

-- Results of steps that ask for it, by the hash of everything that they depend on.
CREATE TABLE cache (
    key        TEXT    PRIMARY KEY,
    workflow   TEXT    NOT NULL,
    step       TEXT    NOT NULL,
    item       INTEGER,
    run        INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    parts      TEXT    NOT NULL,               -- JSON: what the key was made of
    result     BLOB,
    check_sum  INTEGER,
    outputs    TEXT,                           -- JSON: files that it wrote, with their hashes
    created_at INTEGER NOT NULL
);
CREATE INDEX cache_by_step ON cache(workflow, step, item, created_at);

ALTER TABLE intent ADD COLUMN payload TEXT;           -- JSON: what is sent or answered
