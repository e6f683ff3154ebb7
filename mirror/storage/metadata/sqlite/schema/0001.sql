-- The index of what is kept, and the ledger of pulls. Times are seconds since the epoch.
CREATE TABLE blob (
    digest     TEXT    NOT NULL PRIMARY KEY,
    size       INTEGER NOT NULL,
    media_type TEXT,             -- of a manifest; a blob has none
    used_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What a kept manifest points at, whether that is kept or not.
CREATE TABLE child (
    manifest TEXT NOT NULL,
    digest   TEXT NOT NULL,
    PRIMARY KEY (manifest, digest)
) STRICT, WITHOUT ROWID;

-- The repositories that were seen to hold a kept digest.
CREATE TABLE link (
    digest     TEXT NOT NULL,
    upstream   TEXT NOT NULL,
    repository TEXT NOT NULL,
    PRIMARY KEY (digest, upstream, repository)
) STRICT, WITHOUT ROWID;

CREATE TABLE tag (
    upstream   TEXT    NOT NULL,
    repository TEXT    NOT NULL,
    tag        TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    media_type TEXT    NOT NULL,
    size       INTEGER NOT NULL,
    checked_at INTEGER NOT NULL,
    PRIMARY KEY (upstream, repository, tag)
) STRICT, WITHOUT ROWID;

-- The ledger: every request that upstream counted.
CREATE TABLE pull (
    id         INTEGER PRIMARY KEY,
    upstream   TEXT    NOT NULL,
    account    TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    repository TEXT    NOT NULL,
    reference  TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    client     TEXT    NOT NULL
) STRICT;
CREATE INDEX pull_at ON pull (upstream, account, at);

-- What upstream said last of its pull limit; window_length is in seconds.
CREATE TABLE pull_limit (
    upstream      TEXT    NOT NULL,
    account       TEXT    NOT NULL,
    allowed       INTEGER NOT NULL,
    remaining     INTEGER NOT NULL,
    window_length INTEGER NOT NULL,
    source        TEXT    NOT NULL,
    at            INTEGER NOT NULL,
    PRIMARY KEY (upstream, account)
) STRICT, WITHOUT ROWID;
