-- Closes a write. Stores its value if the writer was alone and nothing was invalidated meanwhile: neither its key, nor
-- one of its tags, nor the whole cache. Else leaves nothing.
--
-- INCLUDE _entry
-- ARGV[1] token           text    names this write
-- ARGV[2] entry           bytes   the stored line from its second word on, and the payload; "" stores nothing
-- ARGV[3] px              ms      life of the value; 0 endless
-- RETURN[1] kept          0|1     whether the value is stored
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local token = ARGV[1]
local entry = ARGV[2]
local px = tonumber(ARGV[3])

open_writers() -- without those whose time is over
local state = redis.call('HGET', writers, token)
if not state and stored_by(token) then
  return {1}
end
redis.call('HDEL', writers, token)
local version = state and string.match(state, '^o%d+ (%d+)$')
if version and entry ~= '' and counts(version, string.match(entry, '^%d+ %d+ %S+ %S+ ?([^\n]*)\n')) then
  store(tonumber(version), entry, px)
  return {1}
end
redis.call('UNLINK', value)
wake('r')
return {0}
