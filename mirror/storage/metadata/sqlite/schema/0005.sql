-- The last pull that upstream's word knew of. The clock may be set between the two, so that their times
-- do not tell.
ALTER TABLE pull_limit ADD COLUMN after_pull INTEGER NOT NULL DEFAULT 0;
UPDATE pull_limit SET after_pull = coalesce((
    SELECT max(pull.id) FROM pull
    WHERE pull.upstream = pull_limit.upstream AND pull.account = pull_limit.account
    AND pull.at <= pull_limit.at
), 0);

-- How far ahead the end of a refusal was when it was noted: it never lasts longer, whatever the clock
-- shows. Upstream's own are a day at most.
ALTER TABLE pull_gate ADD COLUMN seconds INTEGER NOT NULL DEFAULT 86400;
