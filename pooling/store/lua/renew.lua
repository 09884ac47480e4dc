-- Prolong the leases of held tickets.
--
-- KEYS 1..5  the lock table
-- ARGV 1 lease µs  then the tickets
-- Returns for each ticket 1 if it is held, else 0.

local until_then = now + tonumber(ARGV[1])
local kept = {}
for i = 2, #ARGV do
  local record = load(ARGV[i])
  if record and record.grant then
    redis.call('ZADD', lease, until_then, ARGV[i])
    kept[i - 1] = 1
  else
    kept[i - 1] = 0
  end
end
return kept
