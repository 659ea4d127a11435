-- Charges an estimate and notes it, so that it can be settled once, by its owner or by time.
-- INCLUDE _common
--
-- A note is "<id>:<charged>:<back>" with the end of its lease as score. When the lease is over, the next reservation on
-- the key gives `back` units back and leaves "<id>=<still charged>" for the owner who comes late after all; that, and
-- the "<id>=done" of a settled one, stay for another lease. A second run with the same id charges nothing.
--
-- KEYS[1] state            string|zset  <ns>:rl:<algorithm>:<name>:{<key>}
-- KEYS[2] notes            zset    <ns>:rl:<algorithm>:<name>:{<key>}:reserved
-- ARGV[1] algorithm        name    which part decides
-- ARGV[2] limit            units   what the limit allows at once
-- ARGV[3] a                number  of the algorithm, see its part
-- ARGV[4] b                number  of the algorithm, see its part
-- ARGV[5] cost             units   the estimate
-- ARGV[6] id               text    of this reservation
-- ARGV[7] back             units   what comes back when the lease ends without a word
-- ARGV[8] lease            us      until then
-- RETURN[1] allowed        0|1     whether the cost fits
-- RETURN[2] remaining      units   left after this request
-- RETURN[3] retry_after    us      until the same request fits; 0 allowed, -1 never
-- RETURN[4] reset_after    us      until nothing is counted any more
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local state = KEYS[1]
local notes = KEYS[2]
local algorithm = algorithms[ARGV[1]]
local limit = tonumber(ARGV[2])
local a = tonumber(ARGV[3])
local b = tonumber(ARGV[4])
local cost = tonumber(ARGV[5])
local id = ARGV[6]
local back = ARGV[7]
local lease = tonumber(ARGV[8])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local note = id .. ':' .. digits(cost) .. ':' .. back

local function give_back(units)
  local _, _, _, reset_after, mended, s1, s2, s3 = algorithm.look(state, now, limit, a, b, 0)
  if units < 0 and reset_after > 0 then
    algorithm.take(state, now, limit, a, b, units, mended, s1, s2, s3)
  end
end

local function note_down(member, score)
  redis.call('ZADD', notes, digits(score), member)
  local ttl = math.max(math.ceil(lease / 500), redis.call('PTTL', notes))
  redis.call('PEXPIRE', notes, digits(ttl))
end

for _, over in ipairs(redis.call('ZRANGE', notes, '-inf', digits(now), 'BYSCORE', 'LIMIT', 0, 100)) do
  redis.call('ZREM', notes, over)
  local its_id, charged, its_back = string.match(over, '^([^:=]+):(%d+):(%d+)$')
  if its_id then
    give_back(-tonumber(its_back))
    note_down(its_id .. '=' .. digits(charged - its_back), now + lease)
  end
end

if redis.call('ZSCORE', notes, note) then
  local _, remaining, _, reset_after = algorithm.look(state, now, limit, a, b, 0)
  return {1, remaining, 0, reset_after}
end
local allowed, remaining, retry_after, reset_after, mended, s1, s2, s3 = algorithm.look(state, now, limit, a, b, cost)
if cost > 0 and (allowed or mended) then
  remaining, reset_after = algorithm.take(state, now, limit, a, b, allowed and cost or 0, mended, s1, s2, s3)
end
if allowed then
  note_down(note, now + lease)
end
return {allowed and 1 or 0, remaining, retry_after, reset_after}
