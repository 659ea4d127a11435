-- Takes members off a board: the named ones, or all but the best; with everything that is kept of them.
--
-- KEYS[1] board       zset    <ns>:lb:{<group>}:<name>:<window>:z
-- KEYS[2..] parts     any     one key for each letter of the layout
-- ARGV[1] order       text    desc or asc
-- ARGV[2] layout      text    d data, t arrivals, s distinct scores
-- ARGV[3] channel     text    where to announce changes; empty: nowhere
-- ARGV[4] keep        members how many of the best stay; -1: all but the named
-- ARGV[5] most        members most to take off in this call
-- ARGV[6..] members   bytes   who goes
-- RETURN[1] removed   members how many went
-- RETURN[2] excess    members above `keep` that are still there
-- READ-ONLY no
-- REPLAY-SAFE no
--
local board = KEYS[1]
local parts = {unpack(KEYS, 2)}
local order = ARGV[1]
local layout = ARGV[2]
local channel = ARGV[3]
local keep = tonumber(ARGV[4])
local most = tonumber(ARGV[5])
local members = {unpack(ARGV, 6)}

local function part(letter)
  local at = string.find(layout, letter, 1, true)
  return at and parts[at]
end

local data, ties, scores = part('d'), part('t'), part('s')

local function remove(member, stored, score)
  redis.call('ZREM', board, stored)
  if ties then
    redis.call('HDEL', ties, member)
  end
  if data then
    redis.call('HDEL', data, member)
  end
  if scores and redis.call('ZCOUNT', board, score, score) == 0 then
    redis.call('ZREMRANGEBYSCORE', scores, score, score)
  end
end

local removed, excess = 0, 0
for _, member in ipairs(members) do
  local stamp = ties and redis.call('HGET', ties, member)
  local stored = stamp and stamp .. member or member
  local score = redis.call('ZSCORE', board, stored)
  if score then
    remove(member, stored, score)
    removed = removed + 1
  end
end
if keep >= 0 then
  excess = math.max(0, redis.call('ZCARD', board) - keep)
  local count = math.min(excess, most)
  if count > 0 then
    local first, last = 0, count - 1
    if order == 'asc' then
      first, last = -count, -1
    end
    local worst = redis.call('ZRANGE', board, first, last, 'WITHSCORES')
    for at = 1, #worst, 2 do
      remove(ties and string.sub(worst[at], 7) or worst[at], worst[at], worst[at + 1])
    end
    removed, excess = removed + count, excess - count
  end
end
if ties and redis.call('ZCARD', board) == 0 then
  redis.call('DEL', ties)
end
if removed > 0 and channel ~= '' then
  redis.pcall('PUBLISH', channel, '!')
end
return {removed, excess}
