-- Store an entry if the epochs that it depends on are unchanged, and nobody commits a write of them.
--
-- KEYS 1 the entry  then the epochs
-- ARGV 1 the entry's bytes  2 time to live, ms  then the epochs' values
-- Returns 1 if it was stored, else 0.

for from = 2, #KEYS, BATCH do
  local to = math.min(from + BATCH - 1, #KEYS)
  for i, value in ipairs(redis.call('MGET', unpack(KEYS, from, to))) do
    if value ~= ARGV[from + i] or is_committing(value) then
      return 0
    end
  end
end
local ttl = tonumber(ARGV[2])
if ttl <= 0 then
  redis.call('DEL', KEYS[1]) -- what was there is older than what was just offered
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ttl)
-- An epoch must outlive what was made under it, or else busy pages would be dropped for no reason. Once a day is enough:
-- to those who are told of changes it is one.
for i = 2, #KEYS do
  if redis.call('TTL', KEYS[i]) < EPOCH_SECONDS - 86400 then
    redis.call('EXPIRE', KEYS[i], EPOCH_SECONDS)
  end
end
return 1
