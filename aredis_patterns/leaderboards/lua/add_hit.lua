-- Adds to the trending score of an item: weights grow with time instead of scores decaying, so the order never changes
-- by itself.
--
-- A hit at time t counts weight * 2^((t - t0) / half_life). Dividing by the same power of now gives the score that
-- has halved once per half-life since. Before the numbers grow too large, t0 moves forward and every score is scaled
-- once: one command, no change of order. A clock that goes back counts a hit a little less, never wrongly.
-- Source: forward decay, Cormode, Shkapenyuk, Srivastava and Xu, 2009.
--
-- KEYS[1] record      string  <ns>:trend:{<name>}:op:<owner>:<slot>  "<operation> <answer>"
-- KEYS[2] board       zset    <ns>:trend:{<name>}:z   item, weighted score
-- KEYS[3] landmark    string  <ns>:trend:{<name>}:t0  in us
-- ARGV[1] operation   number  of this slot
-- ARGV[2] item        bytes   what was hit
-- ARGV[3] weight      number  above zero
-- ARGV[4] half_life   us      of a hit
-- ARGV[5] max_size    items   most items; the weakest go first; 0 no limit
-- ARGV[6] ttl         ms      life of everything after the last hit
-- ARGV[7] record_ttl  ms      life of the record
-- RETURN[1] score     text    of the item now, decayed
-- RETURN[2] rank      rank    of the item now; 0: too weak to stay
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local record = KEYS[1]
local board = KEYS[2]
local landmark = KEYS[3]
local operation = ARGV[1]
local item = ARGV[2]
local weight = tonumber(ARGV[3])
local half_life = tonumber(ARGV[4])
local max_size = tonumber(ARGV[5])
local ttl = ARGV[6]
local record_ttl = ARGV[7]

local number, score_before, rank_before = string.match(redis.call('GET', record) or '', '^(%d+) (%S+) (%d+)$')
-- A later number: this one was overtaken on another connection, and nobody waits for it.
if number and tonumber(number) >= tonumber(operation) then
  return {score_before, tonumber(rank_before)}
end

local MOST = 400
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local start = tonumber(redis.call('GET', landmark))
if not start then
  start = now
  redis.call('DEL', board)
end
local age = (now - start) / half_life
if age > MOST then
  -- Scores are at least 2^-MOST of now after this; what was weaker than 2^-MOST of that is gone.
  redis.call('ZUNIONSTORE', board, 1, board, 'WEIGHTS', string.format('%.17g', 2 ^ -age))
  redis.call('ZREMRANGEBYSCORE', board, '-inf', string.format('%.17g', 2 ^ -MOST))
  start, age = now, 0
end
redis.call('SET', landmark, string.format('%.0f', start), 'PX', ttl)
local score = redis.call('ZINCRBY', board, string.format('%.17g', weight * 2 ^ age), item)
if max_size > 0 then
  local excess = redis.call('ZCARD', board) - max_size
  if excess > 0 then
    redis.call('ZREMRANGEBYRANK', board, 0, excess - 1)
  end
end
redis.call('PEXPIRE', board, ttl)
local place = redis.call('ZREVRANK', board, item)
local decayed = string.format('%.17g', tonumber(score) * 2 ^ -age)
local rank = place and place + 1 or 0
redis.call('SET', record, operation .. ' ' .. decayed .. ' ' .. rank, 'PX', record_ttl)
return {decayed, rank}
