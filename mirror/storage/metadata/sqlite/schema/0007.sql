-- What an upstream calls a manifest where another, who brought it first, has said otherwise (blob.media_type).
CREATE TABLE manifest_type (
    digest     TEXT NOT NULL,
    upstream   TEXT NOT NULL,
    media_type TEXT NOT NULL,
    PRIMARY KEY (digest, upstream)
) STRICT, WITHOUT ROWID;
