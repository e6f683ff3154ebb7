-- Whether upstream gives a repository to everybody, as it said when it was asked without an account.
CREATE TABLE publicity (
    upstream   TEXT    NOT NULL,
    repository TEXT    NOT NULL,
    public     INTEGER NOT NULL,  -- 1 or 0
    asked_at   INTEGER NOT NULL,
    PRIMARY KEY (upstream, repository)
) STRICT, WITHOUT ROWID;
