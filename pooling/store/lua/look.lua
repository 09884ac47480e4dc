-- What became of a ticket that waits? Those in its way who are dead are dropped first. Later messages for it go to the
-- mailbox of whoever asked last.
--
-- KEYS 1..5  the lock table
-- ARGV 1 ticket  2 the caller's mailbox
-- Returns {1, grant, told} granted; {0, µs until it should look again or -1, told} queued; {-1, '', told} unknown;
--      told: messages for other tickets of the caller's process.

local ticket = ARGV[1]
my_box = ARGV[2]
local record = load(ticket)
if record and not record.grant then
  if record.box ~= my_box then
    record.box = my_box
    save(ticket, record)
  end
  reap(record)
  record = load(ticket)
end
if not record then
  return {-1, '', told}
end
if record.grant then
  return {1, record.grant, told}
end
return {0, next_expiry(), told}
