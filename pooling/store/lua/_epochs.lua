-- Put in front of every script: the clock, and the epochs. No script of its own.
--
-- An epoch is renewed by deleting it: a missing one is made when it is read, and never with a value that it had before.
-- So it makes no difference whether a write, its age or want of memory took it, and a write costs one call.
--
-- A value is the caller's random word, the time, and a number within the script. The time is in it because a call whose
-- answer was lost is sent again, random word and all.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local EPOCH_SECONDS = 30 * 86400 -- after that long without a page made from it an epoch is dropped
local BATCH = 1000 -- what Lua can spread into the arguments of one call is limited
local made = 0

local function renew_epochs(keys)
  for from = 1, #keys, BATCH do
    redis.call('DEL', unpack(keys, from, math.min(from + BATCH - 1, #keys)))
  end
end

local function read_epochs(keys, nonce)
  local values = {}
  for from = 1, #keys, BATCH do
    for _, value in ipairs(redis.call('MGET', unpack(keys, from, math.min(from + BATCH - 1, #keys)))) do
      values[#values + 1] = value
    end
  end
  for i, key in ipairs(keys) do
    if not values[i] then
      made = made + 1
      local value = nonce .. struct.pack('>I8I2', now, made)
      redis.call('SET', key, value, 'EX', EPOCH_SECONDS, 'NX')
      values[i] = redis.call('MGET', key)[1] -- the same key may stand there twice
      if not values[i] then -- somebody put a value of another type there, a list or so
        redis.call('SET', key, value, 'EX', EPOCH_SECONDS)
        values[i] = value
      end
    end
  end
  return values
end
