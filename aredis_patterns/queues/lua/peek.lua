-- Looks at messages without touching them.
--
-- KEYS[1] messages    hash    <ns>:queue:{<queue>}:messages
-- KEYS[2] failures    hash    <ns>:queue:{<queue>}:failures
-- KEYS[3] place       zset    <ns>:queue:{<queue>}:ready, or :dead
-- ARGV[1] start       count   how many to pass over
-- ARGV[2] count       count   how many to look at
-- RETURN[1] ids       ids     in the order of the place
-- RETURN[2] scores    number  of each: when it died
-- RETURN[3] failed    text    "<failed deliveries> <last reason>" of each, or nil
-- RETURN[4] envelopes bytes   of each
-- READ-ONLY yes
-- REPLAY-SAFE yes
--
local messages = KEYS[1]
local failures = KEYS[2]
local place = KEYS[3]
local start = tonumber(ARGV[1])
local count = tonumber(ARGV[2])

local ids, scores = {}, {}
local found = redis.call('ZRANGE', place, start, start + count - 1, 'WITHSCORES')
for i = 1, #found, 2 do
  ids[#ids + 1] = found[i]
  scores[#scores + 1] = tonumber(found[i + 1])
end
if #ids == 0 then
  return {ids, scores, {}, {}}
end
local failed = redis.call('HMGET', failures, unpack(ids))
local envelopes = redis.call('HMGET', messages, unpack(ids))
return {ids, scores, failed, envelopes}
