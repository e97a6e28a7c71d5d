-- What a state limits itself: locks, semaphores, quotas. Amounts are ten-thousandths of the resource's unit.
-- What the machine has (CPU, memory, GPUs...) is in the ledger of the host.

CREATE TABLE resource (
    id         TEXT    PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    type       TEXT    NOT NULL,               -- ResourceType
    capacity   INTEGER NOT NULL CHECK (capacity >= 0),
    per_us     INTEGER CHECK (per_us > 0),     -- of a quota: so much of it per this time
    burst      INTEGER CHECK (burst > 0),      -- and so much at once; null: evenly spaced
    tat_us     INTEGER NOT NULL DEFAULT 0,     -- theoretical arrival time: all that a quota remembers
    offline    INTEGER NOT NULL DEFAULT 0,
    peak       INTEGER NOT NULL DEFAULT 0,     -- the most that was ever held
    description TEXT   NOT NULL DEFAULT '',
    limits     TEXT    NOT NULL DEFAULT '{}',
    metadata   TEXT    NOT NULL DEFAULT '{}',
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO resource (id, name, type, capacity, per_us, burst, description, created_at)
VALUES ('api-global', 'api-global', 'api_quota', 10000000, 60000000, 10000000, 'calls of APIs, all together', 0);

-- Who holds what. There is no counter beside it: what is used is the sum of these rows.
CREATE TABLE allocation (
    id         TEXT    PRIMARY KEY,
    resource   TEXT    NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount > 0),
    requester  TEXT    NOT NULL,
    pool       TEXT,                           -- the requester out of whose holding it is taken
    epoch      INTEGER NOT NULL,               -- the engine with whose death it comes back
    run        INTEGER,                        -- of a task's claim: the attempt
    position   INTEGER,
    attempt    INTEGER,
    since      INTEGER NOT NULL,
    expires_at INTEGER
) WITHOUT ROWID;
CREATE INDEX allocation_of_resource ON allocation(resource, pool, amount, expires_at);
CREATE INDEX allocation_of_requester ON allocation(requester);
CREATE INDEX allocation_of_engine ON allocation(epoch);

-- What engines wait for, so that none takes what another has waited for longer.
CREATE TABLE resource_wait (
    epoch      INTEGER NOT NULL,
    resource   TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,               -- a waiter that does not say so any more is passed over
    PRIMARY KEY (epoch, resource)
) WITHOUT ROWID;

ALTER TABLE engine ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';  -- JSON: what it may use
