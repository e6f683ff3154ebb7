-- The database numbers the pulls, in the order of entry. `session` and `entry` name a pull to the process
-- that enters it, so that a repeated write is recognised. The pulls of older versions have neither.
ALTER TABLE pull ADD COLUMN session INTEGER;
ALTER TABLE pull ADD COLUMN entry INTEGER;
CREATE UNIQUE INDEX pull_entry ON pull (session, entry) WHERE session IS NOT NULL;

-- After the last pull is deleted, its number is given again: no limit may name it then.
UPDATE pull_limit SET after_pull = (SELECT coalesce(max(id), 0) FROM pull)
WHERE after_pull > (SELECT coalesce(max(id), 0) FROM pull);
