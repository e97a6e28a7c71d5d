-- What was learned of durations and needs, how far attempts are, and the orders that runs can follow.

-- The newest samples of one subject, and what follows from them. `step:WORKFLOW/STEP` is one step of one workflow,
-- `action:MODULE.ACTION` whatever calls that action, `run:WORKFLOW` a whole run.
CREATE TABLE profile (
    subject    TEXT    NOT NULL,
    size_class INTEGER NOT NULL,               -- of the parameters' bytes (base 4); -1: whatever their size
    count      INTEGER NOT NULL,               -- attempts that ever counted
    samples    TEXT    NOT NULL,               -- JSON: {"items": [...], "duration_s": [...], "cpu_s": [...], "memory_bytes": [...]}
    median_s   REAL    NOT NULL,               -- -1 where no duration is known
    p90_s      REAL    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (subject, size_class)
) WITHOUT ROWID;
CREATE INDEX profile_by_age ON profile(updated_at);

-- How far a running attempt says that it is; at most one row for each, and none once it has ended.
CREATE TABLE task_progress (
    run        INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    done       REAL    NOT NULL,
    total      REAL,
    message    TEXT,
    at         INTEGER NOT NULL,
    PRIMARY KEY (run, position)
) WITHOUT ROWID;

-- The newest plan of each definition that was optimised: `run --follow-plan` starts its tasks in that order.
CREATE TABLE workflow_plan (
    definition TEXT    NOT NULL,               -- its hash
    parameters TEXT    NOT NULL,               -- canonical JSON of what was given
    workflow   TEXT    NOT NULL,
    body       BLOB    NOT NULL,               -- JSON of the plan, zlib
    made_at    INTEGER NOT NULL,
    PRIMARY KEY (definition, parameters)
) WITHOUT ROWID;
