-- Digests in binary (their first byte is the algorithm), and numbers in place of names that repeat.
ALTER TABLE blob RENAME TO old_blob;
ALTER TABLE link RENAME TO old_link;
ALTER TABLE child RENAME TO old_child;
ALTER TABLE manifest_type RENAME TO old_manifest_type;

CREATE TABLE blob (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given again, so that no link can outlive its blob
    digest     BLOB    NOT NULL UNIQUE,
    size       INTEGER NOT NULL,
    media_type TEXT,                               -- of a manifest; a blob has none
    used_at    INTEGER NOT NULL,
    changed_at INTEGER,                            -- see 0002.sql
    state      INTEGER NOT NULL DEFAULT 1          -- 0 arriving, 1 kept, 2 going
) STRICT;

CREATE TABLE repository (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    upstream TEXT NOT NULL,
    name     TEXT NOT NULL,
    UNIQUE (upstream, name)
) STRICT;

-- The repositories that were seen to hold a kept digest.
CREATE TABLE link (
    blob       INTEGER NOT NULL REFERENCES blob ON DELETE CASCADE,
    repository INTEGER NOT NULL REFERENCES repository,
    PRIMARY KEY (blob, repository)
) STRICT, WITHOUT ROWID;

-- What a kept manifest points at, whether that is kept or not.
CREATE TABLE child (
    manifest INTEGER NOT NULL REFERENCES blob ON DELETE CASCADE,
    digest   BLOB    NOT NULL,
    PRIMARY KEY (manifest, digest)
) STRICT, WITHOUT ROWID;

-- What an upstream calls a manifest where another, who brought it first, has said otherwise (blob.media_type).
CREATE TABLE manifest_type (
    manifest   INTEGER NOT NULL REFERENCES blob ON DELETE CASCADE,
    upstream   TEXT    NOT NULL,
    media_type TEXT    NOT NULL,
    PRIMARY KEY (manifest, upstream)
) STRICT, WITHOUT ROWID;

-- In the order of digests, so that the unique index grows at its end. Rows of no digest are left out.
INSERT INTO blob (digest, size, media_type, used_at, changed_at)
    SELECT digest_bytes(CAST(digest AS BLOB)) AS bytes, size, media_type, used_at, changed_at
    FROM old_blob WHERE bytes IS NOT NULL ORDER BY digest;
INSERT INTO repository (upstream, name) SELECT DISTINCT upstream, repository FROM old_link;
INSERT OR IGNORE INTO link (blob, repository)
    SELECT blob.id, repository.id FROM old_link
    JOIN blob ON blob.digest = digest_bytes(CAST(old_link.digest AS BLOB))
    JOIN repository ON repository.upstream = old_link.upstream AND repository.name = old_link.repository;
INSERT OR IGNORE INTO child (manifest, digest)
    SELECT blob.id, digest_bytes(CAST(old_child.digest AS BLOB)) AS bytes FROM old_child
    JOIN blob ON blob.digest = digest_bytes(CAST(old_child.manifest AS BLOB)) WHERE bytes IS NOT NULL;
INSERT OR IGNORE INTO manifest_type (manifest, upstream, media_type)
    SELECT blob.id, upstream, old_manifest_type.media_type FROM old_manifest_type
    JOIN blob ON blob.digest = digest_bytes(CAST(old_manifest_type.digest AS BLOB));
DELETE FROM repository WHERE id NOT IN (SELECT repository FROM link);
DROP TABLE old_blob;
DROP TABLE old_link;
DROP TABLE old_child;
DROP TABLE old_manifest_type;

-- The order of eviction, and what a crash has interrupted.
CREATE INDEX blob_by_use ON blob (used_at) WHERE media_type IS NULL AND state = 1;
CREATE INDEX manifest_by_use ON blob (used_at) WHERE media_type IS NOT NULL AND state = 1;
CREATE INDEX blob_unsettled ON blob (id) WHERE state <> 1;
CREATE INDEX link_by_repository ON link (repository, blob);

-- The sums over `blob`; `bytes` counts each file in whole blocks of 4 KiB.
CREATE TABLE total (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    blobs     INTEGER NOT NULL,  -- manifests included
    manifests INTEGER NOT NULL,
    bytes     INTEGER NOT NULL
) STRICT;
INSERT INTO total SELECT 1, count(*), count(media_type), coalesce(sum((size + 4095) / 4096 * 4096), 0) FROM blob;
CREATE TRIGGER blob_added AFTER INSERT ON blob BEGIN
    UPDATE total SET blobs = blobs + 1, manifests = manifests + (new.media_type IS NOT NULL),
    bytes = bytes + (new.size + 4095) / 4096 * 4096;
END;
CREATE TRIGGER blob_dropped AFTER DELETE ON blob BEGIN
    UPDATE total SET blobs = blobs - 1, manifests = manifests - (old.media_type IS NOT NULL),
    bytes = bytes - (old.size + 4095) / 4096 * 4096;
END;
CREATE TRIGGER blob_changed AFTER UPDATE OF size, media_type ON blob BEGIN
    UPDATE total SET manifests = manifests + (new.media_type IS NOT NULL) - (old.media_type IS NOT NULL),
    bytes = bytes + (new.size + 4095) / 4096 * 4096 - (old.size + 4095) / 4096 * 4096;
END;

-- Links by names. A link to a digest that is not kept is not entered.
CREATE VIEW named_link (digest, upstream, repository) AS
    SELECT blob.digest, repository.upstream, repository.name FROM link
    JOIN blob ON blob.id = link.blob JOIN repository ON repository.id = link.repository;
CREATE TRIGGER named_link_added INSTEAD OF INSERT ON named_link BEGIN
    INSERT OR IGNORE INTO repository (upstream, name) SELECT new.upstream, new.repository
        WHERE EXISTS (SELECT 1 FROM blob WHERE digest = new.digest);
    INSERT OR IGNORE INTO link (blob, repository) SELECT blob.id, repository.id FROM blob, repository
        WHERE blob.digest = new.digest AND repository.upstream = new.upstream AND repository.name = new.repository;
END;
CREATE TRIGGER named_link_dropped INSTEAD OF DELETE ON named_link BEGIN
    DELETE FROM link WHERE blob = (SELECT id FROM blob WHERE digest = old.digest)
        AND repository = (SELECT id FROM repository WHERE upstream = old.upstream AND name = old.repository);
END;
-- A repository leaves with its last link.
CREATE TRIGGER link_dropped AFTER DELETE ON link BEGIN
    DELETE FROM repository WHERE id = old.repository
        AND NOT EXISTS (SELECT 1 FROM link WHERE repository = old.repository);
END;
