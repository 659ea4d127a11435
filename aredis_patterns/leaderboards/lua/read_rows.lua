-- Reads a run of rows of a board: by place, around a member, after a cursor, between two scores, or at a percentile.
--
-- Ranks of the rows follow from the rank of the first one and from equal neighbours, so only one is counted.
--
-- KEYS[1] board       zset    <ns>:lb:{<group>}:<name>:<window>:z
-- KEYS[2..] parts     any     one key for each letter of the layout
-- ARGV[1] mode        text    place, around, after, between or percentile
-- ARGV[2] order       text    desc or asc
-- ARGV[3] ranking     text    ordinal, standard or dense
-- ARGV[4] layout      text    d data, t arrivals, s distinct scores
-- ARGV[5] count       rows    most rows; around: rows on each side
-- ARGV[6] where       any     place: rows to skip; around: the member; after: a score; between: lowest score;
--     percentile: 0 to 100
-- ARGV[7] bound       any     after: the stored member; between: highest score
-- RETURN[1] total     members on the board
-- RETURN[2] start     place   of the first row, 0 for the best; -1: that member is not there
-- RETURN[3] rank      rank    of the first row; 0 without rows
-- RETURN[4] rows      list    stored member, score, ...
-- RETURN[5] data      list    one per row, empty without part d
-- RETURN[6] matching  rows    between: how many there are; otherwise the total
-- READ-ONLY yes
-- REPLAY-SAFE yes
--
local board = KEYS[1]
local parts = {unpack(KEYS, 2)}
local mode = ARGV[1]
local order = ARGV[2]
local ranking = ARGV[3]
local layout = ARGV[4]
local count = tonumber(ARGV[5])
local where = ARGV[6]
local bound = ARGV[7]

local function part(letter)
  local at = string.find(layout, letter, 1, true)
  return at and parts[at]
end

local data, ties, scores = part('d'), part('t'), part('s')
local descending = order == 'desc'
local total = redis.call('ZCARD', board)

local function better_than(counted, score)
  if descending then
    return redis.call('ZCOUNT', counted, '(' .. score, '+inf')
  end
  return redis.call('ZCOUNT', counted, '-inf', '(' .. score)
end

local function rows_at(first, last)
  if descending then
    return redis.call('ZRANGE', board, first, last, 'REV', 'WITHSCORES')
  end
  return redis.call('ZRANGE', board, first, last, 'WITHSCORES')
end

-- Whether the first comes before the second, byte by byte as Redis orders them. Lua's own < asks the server's locale.
local function below(first, second)
  for at = 1, math.min(#first, #second) do
    local one, other = string.byte(first, at), string.byte(second, at)
    if one ~= other then
      return one < other
    end
  end
  return #first < #second
end

-- The place behind a member that may have gone meanwhile: equal scores are in byte order, so it can be searched.
local function place_after(score, stored)
  local place = redis.call(descending and 'ZREVRANK' or 'ZRANK', board, stored)
  local now = place and redis.call('ZSCORE', board, stored)
  if now and tonumber(now) == tonumber(score) then
    return place + 1
  end
  local low = better_than(board, score)
  local high = low + redis.call('ZCOUNT', board, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local other = rows_at(middle, middle)[1]
    local before
    if descending then
      before = below(stored, other)
    else
      before = below(other, stored)
    end
    if before then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

local start, stop
local matching = total
if mode == 'place' then
  start = tonumber(where)
  stop = start + count - 1
elseif mode == 'around' then
  local stamp = ties and redis.call('HGET', ties, where)
  local stored = stamp and stamp .. where or where
  local place = redis.call(descending and 'ZREVRANK' or 'ZRANK', board, stored)
  if not place then
    return {total, -1, 0, {}, {}, total}
  end
  local wanted = math.min(2 * count + 1, total)
  start = math.max(0, math.min(place - count, total - wanted))
  stop = start + wanted - 1
elseif mode == 'after' then
  start = place_after(where, bound)
  stop = start + count - 1
elseif mode == 'between' then
  matching = redis.call('ZCOUNT', board, where, bound)
  start = better_than(board, descending and bound or where)
  stop = start + math.min(count, matching) - 1
else
  -- A share that `percentile` has answered is a whole number of members, give or take the last bit.
  local share = total * tonumber(where) / 100
  start = total - math.max(1, math.ceil(share - share * 1e-12))
  stop = start
end

if total == 0 or start >= total or stop < start then
  return {total, start, 0, {}, {}, matching}
end
local rows = rows_at(start, stop)
local rank = start + 1
if ranking == 'standard' then
  rank = better_than(board, rows[2]) + 1
elseif ranking == 'dense' then
  rank = better_than(scores, rows[2]) + 1
end
local values = {}
if data and #rows > 0 then
  for first = 1, #rows, 2000 do
    local names = {}
    for at = first, math.min(first + 1999, #rows), 2 do
      names[#names + 1] = ties and string.sub(rows[at], 7) or rows[at]
    end
    for _, value in ipairs(redis.call('HMGET', data, unpack(names))) do
      values[#values + 1] = value
    end
  end
end
return {total, start, rank, rows, values, matching}
