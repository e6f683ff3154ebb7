-- When a published file was last written, in nanoseconds since the epoch: one that has another time
-- now was altered behind our back, or touched. NULL is a file that was not hashed since it was
-- found: it is, before it is served.
ALTER TABLE blob ADD COLUMN changed_at INTEGER;
