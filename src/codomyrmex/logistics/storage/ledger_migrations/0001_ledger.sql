-- Who holds what of this machine. Everything here is somebody's who is alive: rows go with the lock of their
-- holder. There is no counter beside them: what is used is the sum. Amounts are whole numbers in the units of
-- resource_request.py, instants integer microseconds since 1970 UTC.

CREATE TABLE holder (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: it names the lock file
    token      TEXT    NOT NULL,                   -- stands in the environment of all that it started
    pid        INTEGER NOT NULL,
    state      TEXT    NOT NULL,                   -- the folder of its state, for people
    nudge      TEXT,                               -- the socket that wakes it
    since      INTEGER NOT NULL
);

-- What engines run tasks with.
CREATE TABLE allotment (
    holder     INTEGER NOT NULL REFERENCES holder(number) ON DELETE CASCADE,
    resource   TEXT    NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount > 0),
    since      INTEGER NOT NULL,
    PRIMARY KEY (holder, resource)
) WITHOUT ROWID;

-- A holder whose next task does not fit.
CREATE TABLE wait (
    holder     INTEGER PRIMARY KEY REFERENCES holder(number) ON DELETE CASCADE,
    place      INTEGER NOT NULL,                   -- in the line; who gives something back goes to its end
    since      INTEGER NOT NULL,
    renewed    INTEGER NOT NULL                    -- of a process that was stopped this grows old
);
CREATE TABLE wait_amount (
    holder     INTEGER NOT NULL REFERENCES wait(holder) ON DELETE CASCADE,
    part       TEXT    NOT NULL,                   -- head: one task; want: all tasks; idle: held, of no use meanwhile
    resource   TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    PRIMARY KEY (holder, part, resource)
) WITHOUT ROWID;

-- What somebody keeps beside the tasks, with an end or until it is released.
CREATE TABLE hold (
    id         TEXT    PRIMARY KEY,
    holder     INTEGER NOT NULL REFERENCES holder(number) ON DELETE CASCADE,
    requester  TEXT    NOT NULL,
    since      INTEGER NOT NULL,
    expires    INTEGER
) WITHOUT ROWID;
CREATE INDEX hold_holder ON hold(holder);
CREATE TABLE hold_amount (
    hold       TEXT    NOT NULL REFERENCES hold(id) ON DELETE CASCADE,
    resource   TEXT    NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount > 0),
    PRIMARY KEY (hold, resource)
) WITHOUT ROWID;

-- What is remembered of a resource itself.
CREATE TABLE resource (
    id         TEXT    PRIMARY KEY,
    offline    INTEGER NOT NULL DEFAULT 0,
    peak       INTEGER NOT NULL DEFAULT 0          -- the most that was ever held at once
) WITHOUT ROWID;

-- Counts what was changed, so that everybody can tell its own changes from those of others.
CREATE TABLE change (number INTEGER NOT NULL);
INSERT INTO change VALUES (0);
