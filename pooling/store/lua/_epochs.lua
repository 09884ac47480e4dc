-- Put in front of every script: the clock, and the epochs. No script of its own.
--
-- An epoch is renewed by deleting it: a missing one is made when it is read, and never with a value that it had before.
-- So it makes no difference whether a write, its age or want of memory took it, and a write costs one call.
--
-- A value is the caller's random word, the time, and a number within the script. The time is in it because a call whose
-- answer was lost is sent again, random word and all.
--
-- Who commits a write without a lock says so before. From then on the value is `!` and, for each who does, his word and
-- until when he is believed (µs): `!word deadline,word deadline,`. Nothing is stored under such a value. It goes when the
-- last of them has renewed it; if he dies, when his time is up, and then it is missing like any other. Not before: while
-- one commits, a page made from the state before must not be stored because another was done, with a lock or without.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local EPOCH_SECONDS = 30 * 86400 -- after that long without a page made from it an epoch is dropped
local BATCH = 1000 -- what Lua can spread into the arguments of one call is limited
local made = 0

local function is_committing(value)
  return value and string.byte(value) == 33 -- '!'
end

-- Those who commit, but for one, as they stand in the value; and until when the last of them is believed, or 0.
local function committing(value, but)
  local others, last = '', 0
  if is_committing(value) then
    for word, deadline in string.gmatch(value, '(%x+) (%d+),') do
      if word ~= but and tonumber(deadline) > now then
        others = others .. word .. ' ' .. deadline .. ','
        last = math.max(last, tonumber(deadline))
      end
    end
  end
  return others, last
end

local function set_committing(key, words, last)
  redis.call('SET', key, '!' .. words, 'PX', math.ceil((last - now) / 1000))
end

local function renew_epochs(keys, word)
  for from = 1, #keys, BATCH do
    local to = math.min(from + BATCH - 1, #keys)
    local gone = {}
    for i, value in ipairs(redis.call('MGET', unpack(keys, from, to))) do
      local others, last = committing(value, word)
      if last == 0 then
        gone[#gone + 1] = keys[from + i - 1]
      elseif '!' .. others ~= value then
        set_committing(keys[from + i - 1], others, last)
      end
    end
    if gone[1] then
      redis.call('DEL', unpack(gone))
    end
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
