-- Who holds and who waits. The dead are dropped first.
--
-- KEYS 1..5  the lock table
-- ARGV 1 the caller's mailbox  then the groups to look at; none: all
-- Returns {messages for the caller's process, {ticket, number, µs since the grant or the request, 1 if it holds else 0,
--      owner, want, want, …}, …} in no order.

my_box = ARGV[1]
for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', lease, '-inf', now)) do
  local record = load(ticket)
  if record and expired(ticket) then
    drop(ticket, record)
  end
end

local tickets = {}
if ARGV[2] then
  local seen = {}
  local function add(members, skip)
    for _, member in ipairs(members) do
      local ticket = string.sub(member, skip + 1)
      if not seen[ticket] then
        seen[ticket] = true
        tickets[#tickets + 1] = ticket
      end
    end
  end
  for i = 2, #ARGV do
    local from, to = '[' .. ARGV[i] .. '\0' .. 1, '(' .. ARGV[i] .. '\0' .. 6
    add(redis.call('ZRANGEBYLEX', held, from, to), #ARGV[i] + 2)
    add(redis.call('ZRANGEBYLEX', wait, from, to), #ARGV[i] + 2 + DIGITS)
  end
else
  tickets = redis.call('HKEYS', info)
end

local found = {told}
for _, ticket in ipairs(tickets) do
  local record = load(ticket)
  local party = {
    ticket, string.format('%.0f', record.number), string.format('%.0f', now - record.since),
    record.grant and 1 or 0, record.owner,
  }
  for _, want in ipairs(record.wants) do
    party[#party + 1] = want
  end
  found[#found + 1] = party
end
return found
