-- Renew epochs. Who said with `committing` that he was about to commit has done so.
--
-- KEYS the epochs
-- ARGV 1 his word, or ''
-- Returns 1.

renew_epochs(KEYS, ARGV[1])
return 1
