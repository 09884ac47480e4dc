-- Replace a small document if nobody has changed it.
--
-- KEYS 1 the document
-- ARGV 1 what it was, or ''  2 what it is to be  3 time to live, ms
-- Returns 1 if it was replaced, else 0.

if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
