-- A small document, and what time it is.
--
-- KEYS 1 the document
-- Returns {its bytes or false, seconds and microseconds of the server's clock}.

local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), time[1], time[2]}
