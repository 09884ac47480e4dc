-- The names under which something stands.
--
-- KEYS 1 the names of all that stand, by when each ends (µs)
-- Returns them.

local time = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', time[1] * 1000000 + time[2]), '+inf')
