-- Give only tokens above this one from now on.
--
-- KEYS 1 seq, the last number given
-- ARGV 1 the token, less than 2^53, so that a double has it exactly
-- Returns 1 if the next token would not have been above it, else 0.

local time = redis.call('TIME')
local token = tonumber(ARGV[1])
local last = tonumber(redis.call('GET', KEYS[1])) or 0
if token <= math.max(last, time[1] * 1000000 + time[2] - 1) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
