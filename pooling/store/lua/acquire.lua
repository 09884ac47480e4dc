-- Grant all groups of a request at once, or put it into all their queues.
--
-- KEYS 1..5  the lock table; then the epochs to renew; then the epochs to report
-- ARGV 1 ticket  2 lease µs  3 patience µs  4 the caller's mailbox  5 a random word  6 owner  7 nowait 0|1
--      8 resource to follow, or ''  9 number of wants  10 number of epochs to renew
--      then the wants, each `group\0mode`, in canonical order; then the family's tickets
-- Returns {1, grant, told} granted; {0, µs until it should look again or -1, told} queued; {-1, '', told} refused, or out of patience;
--      told: messages for other tickets of the caller's process.

local ticket = ARGV[1]
my_box = ARGV[4]
local known = load(ticket)
if known then
  if not known.grant then
    reap(known)
    known = load(ticket)
  end
  if not known then
    return {-1, '', told} -- it was dead itself
  end
  if known.grant then
    return {1, known.grant, told}
  end
  return {0, next_expiry(), told}
end

-- Long dead, and in nobody's way ever since: nobody else would clear it away.
local forgotten = redis.call('ZRANGEBYSCORE', lease, '-inf', now - 86400 * 1000000, 'LIMIT', 0, 1)[1]
if forgotten then
  local record = load(forgotten)
  if record then
    drop(forgotten, record)
  else
    redis.call('ZREM', lease, forgotten)
  end
end

local wants, family, renews, watches = {}, {}, {}, {}
local number_of_wants, number_of_renews = tonumber(ARGV[9]), tonumber(ARGV[10])
for i = 11, 10 + number_of_wants do
  wants[#wants + 1] = ARGV[i]
end
for i = 11 + number_of_wants, #ARGV do
  family[#family + 1] = ARGV[i]
end
for i = 6, 5 + number_of_renews do
  renews[#renews + 1] = KEYS[i]
end
for i = 6 + number_of_renews, #KEYS do
  watches[#watches + 1] = KEYS[i]
end

-- Does somebody compute the resource, or wait to? Followers do not count: were they taken for a leader, then those who
-- found no page and ask again would follow one another for ever.
local leading, follow = true, ARGV[8]
if follow ~= '' and (count(held, follow, X, X) > 0 or count(wait, follow, X, X) > 0) then
  wants, leading = {follow .. '\0005'}, false
end

local record = {
  wants = wants, family = family, renews = renews, watches = watches, leading = leading,
  lease = tonumber(ARGV[2]), box = my_box, nonce = ARGV[5], owner = ARGV[6],
}
local anybody_waits = redis.call('EXISTS', wait) == 1
if free(record, anybody_waits) or (reap(record) and free(record, true)) then
  return {1, hold(ticket, record), told}
end
if ARGV[7] == '1' then
  return {-1, '', told}
end
enqueue(ticket, record, tonumber(ARGV[3]))
return {0, next_expiry(), told}
