-- Prolongs permits, and the parts in read-write locks, that have not ended; what has ended stays so.
--
-- KEYS[1..] places     zset    <ns>:permits:{<key>} or <ns>:rwlock:{<key>}   score end in us
-- ARGV[1..] claims     pair    for each place: member, then its new life in ms (never shortened)
-- RETURN[1..] held     0|1     for each place
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local places = {unpack(KEYS, 1)}
local claims = {unpack(ARGV, 1)}

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local held = {}
for i, place in ipairs(places) do
  local member, ttl = claims[2 * i - 1], tonumber(claims[2 * i])
  local ends = tonumber(redis.call('ZSCORE', place, member) or 0)
  held[i] = 0
  if ends > now then
    redis.call('ZADD', place, 'XX', 'GT', string.format('%.0f', now + ttl * 1000), member)
    if redis.call('PTTL', place) < ttl then
      redis.call('PEXPIRE', place, ttl)
    end
    held[i] = 1
  end
end
return {unpack(held)}
