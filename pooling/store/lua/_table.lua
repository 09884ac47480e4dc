-- Put in front of the scripts that touch locks: the lock table. No script of its own.
--
-- KEYS 1..5   held, wait, lease, info, seq
--   held   zset, score 0, `group\0mode` + ticket: who holds
--   wait   zset, score 0, `group\0mode` + number + ticket: who waits; nested ones also as `group\0n` + mode + number + ticket
--   lease  zset, ticket by the µs at which it will be taken for dead: a holder by its lease, a waiter by its patience
--   info   hash, ticket -> record
--   seq    the last number given to a grant or a waiter: max(previous + 1, µs of TIME)
--
-- Modes are numbered so that those which conflict with one mode are neighbours: one ZLEXCOUNT tests a group.
-- `held`, `wait`, `lease` and `info` exist only while somebody holds or waits.
--
-- A grant that is handed over goes into the mailbox of whoever waits for it, and renews and reads that one's epochs. These
-- keys are in the waiter's record, hence not in KEYS; they have the same hash tag, so they are in the same slot.

local held, wait, lease, info, seq = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local LOW = {4, 3, 2, 1, 2} -- IS 1, IX 2, SIX 3, X 4, S 5: each conflicts with the modes from LOW to HIGH
local HIGH = {4, 5, 5, 5, 4}
local X = 4
local DIGITS = 16
local BOX_SECONDS = 60 -- a mailbox that nobody empties belongs to a dead process

local my_box = ''
local told = {} -- messages for the caller's own process; they need no mailbox
local last

local function number()
  last = math.max((last or tonumber(redis.call('GET', seq)) or 0) + 1, now)
  redis.call('SET', seq, last)
  return last
end

-- Not `..`, which would round: Lua writes a number with 14 digits there.
local function digits(n)
  return string.format('%016.0f', n)
end

-- Mode and group of an entry of `wants`, which is `group\0mode`, as members begin.
local function split(want)
  return string.byte(want, -1) - 48, string.sub(want, 1, -3)
end

-- How many members of a zset have the group and a mode from low to high?
local function count(zset, group, low, high)
  return redis.call('ZLEXCOUNT', zset, '[' .. group .. '\0' .. low, '(' .. group .. '\0' .. (high + 1))
end

local function in_bulk(command, key, arguments)
  for from = 1, #arguments, BATCH do
    redis.call(command, key, unpack(arguments, from, math.min(from + BATCH - 1, #arguments)))
  end
end

local function load(ticket)
  local packed = redis.call('HGET', info, ticket)
  return packed and cmsgpack.unpack(packed)
end

local function save(ticket, record)
  redis.call('HSET', info, ticket, cmsgpack.pack(record))
end

local function expired(ticket)
  local at = redis.call('ZSCORE', lease, ticket)
  return at and tonumber(at) <= now
end

-- A message of one line and, after it, the epochs' values: `ticket token leading length,length,…`. Token 0: withdrawn.
local function message(ticket, token, leading, vector)
  local lengths = {}
  for i, value in ipairs(vector) do
    lengths[i] = #value
  end
  return ticket .. ' ' .. string.format('%.0f', token) .. ' ' .. (leading and 1 or 0) .. ' '
    .. table.concat(lengths, ',') .. '\n' .. table.concat(vector)
end

local function tell(record, text)
  if record.box == my_box then
    told[#told + 1] = text
  else
    redis.call('RPUSH', record.box, text)
    redis.call('EXPIRE', record.box, BOX_SECONDS)
  end
end

-- Is there a waiter on the group, with a mode from low to high, that is older than this number?
local function older_waiter(group, low, high, than)
  for mode = low, high do
    local from = group .. '\0' .. mode
    local first = redis.call('ZRANGEBYLEX', wait, '[' .. from, '(' .. from .. digits(than), 'LIMIT', 0, 1)
    if first[1] then
      return true
    end
  end
  return false
end

-- How many of the conflicting holders on the group are the request's own family?
local function own(family, group, low, high)
  local found = 0
  for _, ticket in ipairs(family) do
    for mode = low, high do
      if redis.call('ZSCORE', held, group .. '\0' .. mode .. ticket) then
        found = found + 1
      end
    end
  end
  return found
end

-- May it be granted now? `record.number` is nil for one that does not stand in the queue yet.
local function free(record, anybody_waits)
  local nested = #record.family > 0
  for _, want in ipairs(record.wants) do
    local mode, group = split(want)
    local low, high = LOW[mode], HIGH[mode]
    local conflicts = count(held, group, low, high)
    if conflicts > 0 and (not nested or conflicts > own(record.family, group, low, high)) then
      return false
    end
    if anybody_waits and not nested then
      if record.number then
        if older_waiter(group, low, high, record.number) then
          return false
        end
      elseif count(wait, group, low, high) > 0 then
        return false
      end
    end
  end
  return true
end

local function hold(ticket, record)
  local members = {}
  for i, want in ipairs(record.wants) do
    members[2 * i - 1] = 0
    members[2 * i] = want .. ticket
  end
  in_bulk('ZADD', held, members)
  redis.call('ZADD', lease, now + record.lease, ticket)
  record.since = now
  record.number = number()
  -- Renewed first, then read: what this holder stores must survive its own grant.
  if record.leading then
    renew_epochs(record.renews)
  end
  record.grant = message(ticket, record.number, record.leading, read_epochs(record.watches, record.nonce))
  record.renews, record.watches, record.nonce = nil, nil, nil
  save(ticket, record)
  return record.grant
end

-- The members that a waiter has in `wait`.
local function places(ticket, record)
  local members, nested = {}, #record.family > 0
  local place = digits(record.number) .. ticket
  for _, want in ipairs(record.wants) do
    members[#members + 1] = want .. place
    if nested then
      members[#members + 1] = string.sub(want, 1, -2) .. 'n' .. string.sub(want, -1) .. place
    end
  end
  return members
end

local function enqueue(ticket, record, patience)
  record.number = number()
  record.since = now
  local members = {}
  for _, member in ipairs(places(ticket, record)) do
    members[#members + 1] = 0
    members[#members + 1] = member
  end
  in_bulk('ZADD', wait, members)
  redis.call('ZADD', lease, now + patience, ticket)
  save(ticket, record)
end

-- Take a ticket out of all its groups.
local function remove(ticket, record)
  if record.grant then
    local members = {}
    for i, want in ipairs(record.wants) do
      members[i] = want .. ticket
    end
    in_bulk('ZREM', held, members)
  else
    in_bulk('ZREM', wait, places(ticket, record))
    tell(record, message(ticket, 0, false, {})) -- somebody may still be waiting for it
  end
  redis.call('ZREM', lease, ticket)
  redis.call('HDEL', info, ticket)
end

-- Waiters whom the going of these wants may have freed: only who conflicts with what is gone.
local function freed(wants)
  local found, seen = {}, {}
  local function add(members, skip, nested)
    for _, member in ipairs(members) do
      local ticket = string.sub(member, skip + DIGITS + 1)
      if not seen[ticket] then
        seen[ticket] = true
        found[#found + 1] = {ticket, string.sub(member, skip + 1, skip + DIGITS), nested}
      end
    end
  end
  for _, want in ipairs(wants) do
    local mode, group = split(want)
    local low, high = LOW[mode], HIGH[mode]
    if count(wait, group, low, high) > 0 then
      local prefix = group .. '\0'
      add(redis.call('ZRANGEBYLEX', wait, '[' .. prefix .. 'n' .. low, '(' .. prefix .. 'n' .. (high + 1)), #prefix + 2, true)
      -- Granted or not, nobody behind a waiter for X can go on; nor can who is blocked by a holder here.
      local first = redis.call('ZRANGEBYLEX', wait, '[' .. prefix .. X, '(' .. prefix .. (X + 1), 'LIMIT', 0, 1)
      local stop = first[1] and string.sub(first[1], #prefix + 2, #prefix + 1 + DIGITS) or '~'
      for other = low, high do
        if count(held, group, LOW[other], HIGH[other]) == 0 then
          local from = prefix .. other
          add(other == X and first or redis.call('ZRANGEBYLEX', wait, '[' .. from, '(' .. from .. stop), #prefix + 1, false)
        end
      end
    end
  end
  -- Nested ones first: their holders keep others waiting.
  table.sort(found, function(a, b)
    if a[3] ~= b[3] then
      return a[3]
    end
    return a[2] < b[2]
  end)
  return found
end

-- Grant whom the going of a ticket with these wants has freed. A grant frees nobody: whoever was blocked by the waiter is
-- blocked by the holder now. A dead waiter found on the way frees others in turn.
local function sweep(gone)
  local work = {gone}
  while #work > 0 and redis.call('EXISTS', wait) == 1 do
    for _, candidate in ipairs(freed(table.remove(work))) do
      local ticket = candidate[1]
      local record = load(ticket)
      if record and not record.grant and free(record, true) then
        if expired(ticket) then
          remove(ticket, record)
          work[#work + 1] = record.wants
        else
          in_bulk('ZREM', wait, places(ticket, record))
          tell(record, hold(ticket, record))
        end
      end
    end
  end
end

local function drop(ticket, record)
  remove(ticket, record)
  sweep(record.wants)
end

-- Drop who stands in this ticket's way and is dead: holders past their lease, waiters past their patience. Were there any?
local function reap(record)
  if redis.call('ZCARD', lease) ~= redis.call('HLEN', info) then
    -- Somebody deleted a part of the table, or it was evicted. What is left says nothing any more: its holders have lost
    -- their locks and learn it when they renew them; who waits asks again.
    redis.call('DEL', held, wait, lease, info)
    return true
  end
  if not redis.call('ZRANGEBYSCORE', lease, '-inf', now, 'LIMIT', 0, 1)[1] then
    return false
  end
  local dead, seen = {}, {}
  for _, ticket in ipairs(record.family) do
    seen[ticket] = true -- not in its way
  end
  local function look(members, skip)
    for _, member in ipairs(members) do
      local ticket = string.sub(member, skip + 1)
      if not seen[ticket] and expired(ticket) then
        seen[ticket] = true
        dead[#dead + 1] = {ticket, load(ticket)}
      end
    end
  end
  for _, want in ipairs(record.wants) do
    local mode, group = split(want)
    local low, high = LOW[mode], HIGH[mode]
    look(redis.call('ZRANGEBYLEX', held, '[' .. group .. '\0' .. low, '(' .. group .. '\0' .. (high + 1)), #group + 2)
    if #record.family == 0 then
      local before = record.number and digits(record.number) or '~'
      for other = low, high do
        local from = group .. '\0' .. other
        look(redis.call('ZRANGEBYLEX', wait, '[' .. from, '(' .. from .. before), #from + DIGITS)
      end
    end
  end
  -- Holders in the order of their grants, then waiters in that of the queue, so that it never depends on names.
  table.sort(dead, function(a, b)
    if (a[2].grant == nil) ~= (b[2].grant == nil) then
      return a[2].grant ~= nil
    end
    return a[2].number < b[2].number
  end)
  for _, other in ipairs(dead) do
    local current = load(other[1])
    if current and expired(other[1]) then -- an earlier one's going may have granted it, and with that renewed it
      drop(other[1], current)
    end
  end
  return #dead > 0
end

-- µs until the next ticket of all will be taken for dead: not before that can waiting have become pointless.
local function next_expiry()
  local first = redis.call('ZRANGEBYSCORE', lease, '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and first[2] - now or -1
end
