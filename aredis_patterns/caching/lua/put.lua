-- Stores a value that the caller has, whoever loads or writes meanwhile: their values are older and will not be kept.
--
-- INCLUDE _entry
-- ARGV[1] token           text    names this call
-- ARGV[2] entry           bytes   the stored line from its second word on, and the payload
-- ARGV[3] px              ms      life of the value; 0 endless
-- ARGV[4] only            text    NX when there is no value yet, XX when there is one, "" always
-- ARGV[5] keep_ttl        0|1     leave the remaining life of the old value as it is
-- ARGV[6] horizon         ms      how long versions must be kept; 0 for ever
-- RETURN[1] status        code    0 versions need care, 1 stored, 2 the condition does not hold
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local token = ARGV[1]
local entry = ARGV[2]
local px = tonumber(ARGV[3])
local only = ARGV[4]
local keep_ttl = tonumber(ARGV[5])
local horizon = tonumber(ARGV[6])

local CARE, STORED, REFUSED = 0, 1, 2

local version = version_now(horizon)
if not version then
  return {CARE}
end
if stored_by(token) then
  return {STORED}
end
local old = (only ~= '' or keep_ttl == 1) and redis.call('GET', value)
local present = old and judge(old)
if (only == 'NX' and present) or (only == 'XX' and not present) then
  return {REFUSED}
end

if keep_ttl == 1 and present then
  local left = redis.call('PTTL', value)
  local times = string.match(old, '^#%d+ (%d+ %d+) ') or '0 0'
  store(version, string.gsub(entry, '^%d+ %d+', times, 1), math.max(left, 0))
else
  store(version, entry, px)
end
wake('r')
beat_writers()
return {STORED}
