-- Images that an operator pinned: their content is not evicted. `reference` is a tag or a digest, `digest`
-- what it meant last; while the new content of a tag that has moved is stored, what it meant before.
CREATE TABLE pin (
    upstream   TEXT    NOT NULL,
    repository TEXT    NOT NULL,
    reference  TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    pinned_at  INTEGER NOT NULL,
    PRIMARY KEY (upstream, repository, reference)
) STRICT, WITHOUT ROWID;
