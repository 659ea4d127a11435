-- Stores what a loader has loaded, if its lease still holds, and hands it to all who wait.
--
-- A lease that has expired, was taken over or was ended by an invalidation refuses: what was loaded under it may be
-- old. So does one whose version is too low by now: the cache was cleared meanwhile, or one of the tags invalidated.
-- The token stays in the stored line, so a second run answers as the first one did.
--
-- INCLUDE _entry
-- ARGV[1] token           text    who loaded
-- ARGV[2] entry           bytes   the stored line from its second word on, and the payload
-- ARGV[3] px              ms      life of the value; 0 endless
-- ARGV[4] most            bytes   a larger value is not sent to those who wait: they look again
-- RETURN[1] kept          0|1     whether the value is stored
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local token = ARGV[1]
local entry = ARGV[2]
local px = tonumber(ARGV[3])
local most = tonumber(ARGV[4])

local held = redis.call('HMGET', lease, 'o', 'v')
if held[1] ~= token then
  return {stored_by(token) and 1 or 0}
end
if not counts(held[2], string.match(entry, '^%d+ %d+ %S+ %S+ ?([^\n]*)\n')) then
  wake('r')
  return {0}
end
local stored = store(tonumber(held[2]), entry, px)
wake(#stored <= most and 'v' .. stored or 'r')
return {1}
