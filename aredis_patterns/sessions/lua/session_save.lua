-- Writes the attributes that have changed, and no others, if the session is still there.
--
-- A session that was ended meanwhile is not brought back: nothing is written. One that has another id since the request
-- began is written under that id, while the old one has its grace. Writers of different attributes do not
-- disturb each other. The size counts names and values, and is kept with them, so the bound holds whoever writes.
--
-- KEYS[1] session      hash     <ns>:sess:<name>:{<tag>}:<hash>
-- ARGV[1] idle         ms       life without a request
-- ARGV[2] absolute     ms       life in all
-- ARGV[3] expected     version  write only if it is still this; 0: whatever it is
-- ARGV[4] most         bytes    of all names and values; a save may always shrink
-- ARGV[5] removed      count    how many of the fields are names to remove; the others are name and value in turn
-- ARGV[6..] fields     text
-- RETURN[1] status     0|1|2|3|4  gone, saved, another version, too large, rotated: write to its successor
-- RETURN[2] version    version  after this
-- RETURN[3] size       bytes    after this; of a save that is too large: what it would have been
-- RETURN[4] moved      text     of a rotated one, within its grace: the handle of its successor; else empty
-- READ-ONLY no
-- REPLAY-SAFE no
--
local session = KEYS[1]
local idle = tonumber(ARGV[1])
local absolute = tonumber(ARGV[2])
local expected = tonumber(ARGV[3])
local most = tonumber(ARGV[4])
local removed = tonumber(ARGV[5])
local fields = {unpack(ARGV, 6)}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local found = redis.call('HMGET', session, 'created', 'seen', 'version', 'size', 'moved', 'grace')
if found[5] and now < tonumber(found[6]) then
  return {4, 0, 0, found[5]}
end
if not found[1] or now >= math.min(found[2] + idle, found[1] + absolute) then
  return {0, 0, 0, ''}
end
local version, before = tonumber(found[3]), tonumber(found[4])
if expected > 0 and expected ~= version then
  return {2, version, before, ''}
end
if #fields == 0 then
  return {1, version, before, ''}
end

-- Values are JSON and never empty: a length of 0 is a field that is not there.
local size = before
for at = 1, removed do
  local length = redis.call('HSTRLEN', session, fields[at])
  if length > 0 then
    size = size - #fields[at] - length
  end
end
for at = removed + 1, #fields, 2 do
  local length = redis.call('HSTRLEN', session, fields[at])
  size = size + #fields[at + 1] - length + (length == 0 and #fields[at] or 0)
end
if size > most and size > before then
  return {3, version, size, ''}
end
if removed > 0 then
  redis.call('HDEL', session, unpack(fields, 1, removed))
end
redis.call('HSET', session, 'version', version + 1, 'size', size, unpack(fields, removed + 1))
return {1, version + 1, size, ''}
