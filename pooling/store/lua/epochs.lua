-- Current values of epochs, and the entry beside them. A missing epoch is made.
--
-- KEYS 1 an entry, or any key that is not used  then the epochs
-- ARGV 1 a random word
-- Returns the entry or nil, then the values.

local keys = {}
for i = 2, #KEYS do
  keys[i - 1] = KEYS[i]
end
local answer = read_epochs(keys, ARGV[1])
table.insert(answer, 1, redis.call('MGET', KEYS[1])[1]) -- unlike GET no error for a value of another type
return answer
