-- The history: sums of the requests of a step, by upstream; the rows of '' are about the mirror itself.
-- `step` is in seconds, `spared` in milliseconds, `ran` in seconds. A step without a running mirror has
-- no row.
CREATE TABLE history (
    step              INTEGER NOT NULL,
    at                INTEGER NOT NULL,  -- its begin
    upstream          TEXT    NOT NULL,
    requests          INTEGER NOT NULL,
    hits              INTEGER NOT NULL,
    stale             INTEGER NOT NULL,
    errors            INTEGER NOT NULL,
    sent              INTEGER NOT NULL,
    sent_from_cache   INTEGER NOT NULL,
    asked             INTEGER NOT NULL,
    counted           INTEGER NOT NULL,
    spared            INTEGER NOT NULL,
    upstream_requests INTEGER NOT NULL,
    upstream_failures INTEGER NOT NULL,
    received          INTEGER NOT NULL,
    evicted           INTEGER NOT NULL,
    ran               INTEGER NOT NULL,
    PRIMARY KEY (step, at, upstream)
) STRICT, WITHOUT ROWID;

-- The images (what = 'image') and clients ('client') with the most pulls of an hour.
CREATE TABLE top (
    hour  INTEGER NOT NULL,  -- its begin
    what  TEXT    NOT NULL,
    name  TEXT    NOT NULL,
    pulls INTEGER NOT NULL,
    sent  INTEGER NOT NULL,
    PRIMARY KEY (hour, what, name)
) STRICT, WITHOUT ROWID;
