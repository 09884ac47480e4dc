-- Somebody is about to commit a write of these, and holds no lock.
--
-- KEYS the epochs
-- ARGV 1 his word, hexadecimal digits  2 for how many µs he is believed
-- Returns 1.

local deadline = now + tonumber(ARGV[2])
for from = 1, #KEYS, BATCH do
  local to = math.min(from + BATCH - 1, #KEYS)
  for i, value in ipairs(redis.call('MGET', unpack(KEYS, from, to))) do
    local others, last = committing(value, ARGV[1])
    set_committing(KEYS[from + i - 1], others .. ARGV[1] .. ' ' .. string.format('%.0f', deadline) .. ',', math.max(last, deadline))
  end
end
return 1
