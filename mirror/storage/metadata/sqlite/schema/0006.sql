-- What an older version took for private: one answer was enough for it, be it upstream's mistake. Upstream
-- is asked again.
DELETE FROM publicity WHERE public = 0;
