"""The index's SQL. Limited to syntax that PostgreSQL accepts, too."""

from __future__ import annotations

PUT_BLOB = """INSERT INTO blob (digest, size, media_type, used_at, changed_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (digest) DO UPDATE SET size = excluded.size, media_type = excluded.media_type,
    used_at = excluded.used_at, changed_at = excluded.changed_at"""
TOUCH = "UPDATE blob SET used_at = $2 WHERE digest = $1"
DROP_BLOB = "DELETE FROM blob WHERE digest = $1"
PUT_CHILD = """INSERT INTO child (manifest, digest) SELECT id, $2 FROM blob WHERE digest = $1
    ON CONFLICT DO NOTHING"""
PUT_TYPE = """INSERT INTO manifest_type (manifest, upstream, media_type)
    SELECT id, $2, $3 FROM blob WHERE digest = $1
    ON CONFLICT (manifest, upstream) DO UPDATE SET media_type = excluded.media_type"""
PUT_LINK = "INSERT INTO named_link (digest, upstream, repository) VALUES ($1, $2, $3)"
DROP_LINK = "DELETE FROM named_link WHERE digest = $1 AND upstream = $2 AND repository = $3"
PUT_TAG = """INSERT INTO tag (upstream, repository, tag, digest, media_type, size, checked_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (upstream, repository, tag) DO UPDATE SET digest = excluded.digest,
    media_type = excluded.media_type, size = excluded.size, checked_at = excluded.checked_at"""
DROP_TAG = "DELETE FROM tag WHERE upstream = $1 AND repository = $2 AND tag = $3"
PUT_PULL = """INSERT INTO pull
    (session, entry, upstream, account, at, repository, reference, digest, client)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (session, entry) WHERE session IS NOT NULL DO NOTHING"""
MOVE_PULLS = "UPDATE pull SET at = at + $2 WHERE session = $1"
PUT_LIMIT = """INSERT INTO pull_limit
    (upstream, account, allowed, remaining, window_length, source, at, after_pull)
    VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT coalesce(max(id), 0) FROM pull))
    ON CONFLICT (upstream, account) DO UPDATE SET allowed = excluded.allowed,
    remaining = excluded.remaining, window_length = excluded.window_length,
    source = excluded.source, at = excluded.at, after_pull = excluded.after_pull"""
DROP_LIMIT = "DELETE FROM pull_limit WHERE upstream = $1 AND account = $2"
PUT_GATE = """INSERT INTO pull_gate (upstream, account, until, seconds) VALUES ($1, $2, $3, $4)
    ON CONFLICT (upstream, account) DO UPDATE SET until = excluded.until,
    seconds = excluded.seconds"""
PUT_ASKED = """INSERT INTO asked (upstream, hour, pulls) VALUES ($1, $2, $3)
    ON CONFLICT (upstream, hour) DO UPDATE SET pulls = excluded.pulls"""
PUT_PIN = """INSERT INTO pin (upstream, repository, reference, digest, pinned_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (upstream, repository, reference) DO UPDATE SET digest = excluded.digest,
    pinned_at = excluded.pinned_at"""
DROP_PIN = "DELETE FROM pin WHERE upstream = $1 AND repository = $2 AND reference = $3"
PUT_PUBLICITY = """INSERT INTO publicity (upstream, repository, public, asked_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (upstream, repository) DO UPDATE SET public = excluded.public,
    asked_at = excluded.asked_at"""
DROP_PUBLICITY = "DELETE FROM publicity WHERE upstream = $1 AND repository = $2"
PUT_HISTORY = """INSERT INTO history (step, at, upstream, requests, hits, stale, errors, sent,
    sent_from_cache, asked, counted, spared, upstream_requests, upstream_failures, received,
    evicted, ran)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
    ON CONFLICT (step, at, upstream) DO UPDATE SET requests = excluded.requests,
    hits = excluded.hits, stale = excluded.stale, errors = excluded.errors, sent = excluded.sent,
    sent_from_cache = excluded.sent_from_cache, asked = excluded.asked,
    counted = excluded.counted, spared = excluded.spared,
    upstream_requests = excluded.upstream_requests,
    upstream_failures = excluded.upstream_failures, received = excluded.received,
    evicted = excluded.evicted, ran = excluded.ran"""
DROP_HISTORY = "DELETE FROM history WHERE step = $1 AND at = $2 AND upstream = $3"
PUT_TOP = """INSERT INTO top (hour, what, name, pulls, sent) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (hour, what, name) DO UPDATE SET pulls = excluded.pulls, sent = excluded.sent"""
DROP_TOP = "DELETE FROM top WHERE hour = $1"
PRUNE = ("DELETE FROM pull WHERE at < $1", "DELETE FROM asked WHERE hour < $1")
KEEP_LAST = """DELETE FROM pull WHERE upstream = $1 AND account = $2 AND id <= (
    SELECT id FROM pull WHERE upstream = $1 AND account = $2 ORDER BY id DESC LIMIT 1 OFFSET $3)"""
PRUNE_WORDS = ("DELETE FROM pull_limit WHERE at < $1", "DELETE FROM pull_gate WHERE until < $1")
# After the last pull is deleted, its number is given again: no limit may name it then.
PRUNE_AFTER = """UPDATE pull_limit SET after_pull = (SELECT coalesce(max(id), 0) FROM pull)
    WHERE after_pull > (SELECT coalesce(max(id), 0) FROM pull)"""
LAST_ENTRY = """SELECT max(at) FROM (SELECT at FROM pull WHERE id = (SELECT max(id) FROM pull)
    UNION ALL SELECT max(at) AS at FROM pull_limit) AS entry"""
_SPENDERS = """SELECT {what}, count(*) FROM pull
    WHERE upstream = $1 AND account = $2 AND at > $3 AND repository <> ''
    GROUP BY {what} ORDER BY count(*) DESC, {what} LIMIT $4"""
_IMAGE = "repository || CASE WHEN reference LIKE '%:%' THEN '@' ELSE ':' END || reference"
SPENDERS = {
    "client": _SPENDERS.format(what="client"),
    "repository": _SPENDERS.format(what="repository"),
    "tag": _SPENDERS.format(what=_IMAGE),
}

TOTAL = "SELECT blobs, manifests, bytes FROM total"
BLOBS = "SELECT digest, size, media_type, used_at, changed_at FROM blob ORDER BY used_at"
CHILDREN = """SELECT blob.digest, child.digest FROM child JOIN blob ON blob.id = child.manifest
    ORDER BY child.manifest"""
TYPES = """SELECT digest, upstream, manifest_type.media_type FROM manifest_type
    JOIN blob ON blob.id = manifest_type.manifest"""
LINKS = "SELECT digest, upstream, repository FROM named_link"
TAGS = """SELECT upstream, repository, tag, digest, media_type, size, checked_at FROM tag
    ORDER BY checked_at"""
PUBLICITY = "SELECT upstream, repository, public, asked_at FROM publicity ORDER BY asked_at"
LIMITS = """SELECT upstream, account, allowed, remaining, window_length, source, at
    FROM pull_limit"""
PINS = """SELECT upstream, repository, reference, digest, pinned_at
    FROM pin ORDER BY pinned_at, upstream, repository, reference"""
GATES = "SELECT upstream, account, until, seconds FROM pull_gate"
PULLS = """SELECT pull.upstream, pull.account, pull.at, client, id <= coalesce(after_pull, 0)
    FROM pull LEFT JOIN pull_limit
    ON pull_limit.upstream = pull.upstream AND pull_limit.account = pull.account
    WHERE id >= (SELECT min(id) FROM pull WHERE at >= $1) ORDER BY id"""
ASKED = "SELECT upstream, hour, pulls FROM asked WHERE hour >= $1"
HISTORY = """SELECT step, at, upstream, requests, hits, stale, errors, sent, sent_from_cache,
    asked, counted, spared, upstream_requests, upstream_failures, received, evicted, ran
    FROM history ORDER BY step, at"""
TOP = "SELECT hour, what, name, pulls, sent FROM top ORDER BY hour"
