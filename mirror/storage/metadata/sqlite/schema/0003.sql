-- Until when an upstream that refused a pull is not asked for more.
CREATE TABLE pull_gate (
    upstream TEXT    NOT NULL,
    account  TEXT    NOT NULL,
    until    INTEGER NOT NULL,
    PRIMARY KEY (upstream, account)
) STRICT, WITHOUT ROWID;

-- How many manifests clients pulled in each hour: what they would have spent without the mirror.
CREATE TABLE asked (
    upstream TEXT    NOT NULL,
    hour     INTEGER NOT NULL,  -- its begin
    pulls    INTEGER NOT NULL,
    PRIMARY KEY (upstream, hour)
) STRICT, WITHOUT ROWID;
