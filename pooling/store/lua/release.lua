-- Let go of a ticket, held or queued, renew the epochs of what was written, and grant those who can go on.
--
-- KEYS 1..5  the lock table; then the epochs to renew
-- ARGV 1 ticket  2 the caller's mailbox
-- Returns {1 if it was held else 0, told}; told: messages for other tickets of the caller's process.

local ticket = ARGV[1]
my_box = ARGV[2]
-- Before the groups are free: the next holder's vector must have these values already. Also if the ticket was lost.
if KEYS[6] then
  local renews = {}
  for i = 6, #KEYS do
    renews[#renews + 1] = KEYS[i]
  end
  renew_epochs(renews)
end
local record = load(ticket)
if not record then
  return {0, told}
end
drop(ticket, record)
return {record.grant and 1 or 0, told}
