-- Writes one score into every window of a board, all or none, and tells each rank before and after.
--
-- A refusal (another day has begun, a window is over, a sum beyond 2^53) writes nothing. The record holds the last
-- operation of its slot with its answer: a second execution answers the same and writes nothing.
--
-- Ties: with part `t` a member is stored behind six bytes that count the arrivals, so Redis' own order of equal scores
-- is the order in which they were reached. A counter, not a clock: exact, and it never goes back. Dense ranks: part
-- `s` holds each distinct score once. Rows are found in it by value, never by text, because servers print 0.1
-- differently.
--
-- KEYS[1] record      string  <ns>:lb:{<group>}:<name>:op:<owner>:<slot>  "<operation> <answer>"
-- KEYS[2..] parts     any     per window its board (zset), then one key for each letter of the layout
-- ARGV[1] operation   number  of this slot
-- ARGV[2] member      bytes   who
-- ARGV[3] score       number  the score, or what to add to it
-- ARGV[4] mode        text    set, best, worst or add
-- ARGV[5] order       text    desc or asc
-- ARGV[6] ranking     text    ordinal, standard or dense
-- ARGV[7] layout      text    parts of each window: d data, t arrivals, s distinct scores
-- ARGV[8] data        bytes   what to remember of the member; empty leaves it
-- ARGV[9] max_size    members most in a window; the worst go first, at most 1000 per write; 0 no limit
-- ARGV[10] channel    text    where to announce changes; empty: nowhere
-- ARGV[11] record_ttl ms      life of the record
-- ARGV[12..] spans    ms      per window: opens, closes, expires (0 never; negative: so long after this write)
-- RETURN[1] status    0..3    0 written, 1 not this window now, 2 the window is over, 3 the sum is out of range
-- RETURN[2] answer    text    0: per window "rank previous_rank score previous_score applied", rank 0 for not on the
--     board; 1 and 2: the server's time in ms; 3: the sum
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local record = KEYS[1]
local parts = {unpack(KEYS, 2)}
local operation = ARGV[1]
local member = ARGV[2]
local score = tonumber(ARGV[3])
local mode = ARGV[4]
local order = ARGV[5]
local ranking = ARGV[6]
local layout = ARGV[7]
local data = ARGV[8]
local max_size = tonumber(ARGV[9])
local channel = ARGV[10]
local record_ttl = ARGV[11]
local spans = {unpack(ARGV, 12)}

local known = redis.call('GET', record)
if known then
  local number, answer = string.match(known, '^(%d+) (.*)$')
  -- A later number: this one was overtaken on another connection, and nobody waits for it.
  if number and tonumber(number) >= tonumber(operation) then
    return {0, answer}
  end
end

local LARGEST = 9007199254740992
local stride = 1 + #layout
local has_data = string.find(layout, 'd', 1, true)
local has_ties = string.find(layout, 't', 1, true)
local has_scores = string.find(layout, 's', 1, true)
local clock

local function now()
  if not clock then
    local time = redis.call('TIME')
    clock = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return clock
end

local function digits(number)
  return string.format('%.17g', number)
end

-- Everything is decided before anything is written.
local windows = {}
for at = 1, #spans, 3 do
  local opens, closes, expires = tonumber(spans[at]), tonumber(spans[at + 1]), tonumber(spans[at + 2])
  if closes > 0 and (now() < opens or now() >= closes) then
    return {1, digits(now())}
  end
  if expires > 0 and expires <= now() then
    return {2, digits(now())}
  end
  local first = #windows * stride + 1
  local window = {
    board = parts[first],
    data = has_data and parts[first + has_data],
    ties = has_ties and parts[first + has_ties],
    scores = has_scores and parts[first + has_scores],
    expires = expires,
    stored = member,
  }
  local board, ties = window.board, window.ties
  local stamp = ties and redis.call('HGET', ties, member)
  if stamp then
    window.stored = stamp .. member
  end
  local found = redis.call('ZSCORE', board, window.stored)
  window.old = found and tonumber(found)
  window.new = score
  if mode == 'add' then
    local before = window.old or 0
    window.new = before + score
    -- 2^53 + 1 is 2^53 again: at the edge only what was really added counts.
    local size = math.abs(window.new)
    if size > LARGEST or (size == LARGEST and window.new - before ~= score) then
      return {3, digits(window.new)}
    end
  end
  window.applied = true
  if window.old and (mode == 'best' or mode == 'worst') then
    local higher = window.new > window.old
    local lower = window.new < window.old
    if (mode == 'best') == (order == 'desc') then
      window.applied = higher
    else
      window.applied = lower
    end
  end
  windows[#windows + 1] = window
end

local function rank_of(window, value)
  local board, scores = window.board, window.scores
  if ranking == 'ordinal' then
    return redis.call(order == 'desc' and 'ZREVRANK' or 'ZRANK', board, window.stored) + 1
  end
  local counted = ranking == 'dense' and scores or board
  if order == 'desc' then
    return redis.call('ZCOUNT', counted, '(' .. digits(value), '+inf') + 1
  end
  return redis.call('ZCOUNT', counted, '-inf', '(' .. digits(value)) + 1
end

local function forget_score(window, value)
  local board, scores = window.board, window.scores
  local text = digits(value)
  if scores and redis.call('ZCOUNT', board, text, text) == 0 then
    redis.call('ZREMRANGEBYSCORE', scores, text, text)
  end
end

local function store(window)
  local board, ties, scores = window.board, window.ties, window.scores
  local text = digits(window.new)
  if ties then
    if window.old then
      redis.call('ZREM', board, window.stored)
    end
    local arrival = redis.call('HINCRBY', ties, '', 1)
    local stamp = struct.pack('>I6', order == 'desc' and 281474976710655 - arrival or arrival)
    redis.call('HSET', ties, member, stamp)
    window.stored = stamp .. member
  end
  redis.call('ZADD', board, text, window.stored)
  if scores then
    if window.old then
      forget_score(window, window.old)
    end
    if redis.call('ZCOUNT', scores, text, text) == 0 then
      redis.call('ZADD', scores, text, text)
    end
  end
end

local function trim(window)
  local board, values, ties = window.board, window.data, window.ties
  local excess = math.min(redis.call('ZCARD', board) - max_size, 1000)
  if excess <= 0 then
    return
  end
  local first, last = 0, excess - 1
  if order == 'asc' then
    first, last = -excess, -1
  end
  local worst = redis.call('ZRANGE', board, first, last, 'WITHSCORES')
  for at = 1, #worst, 2 do
    local gone = worst[at]
    redis.call('ZREM', board, gone)
    if ties then
      gone = string.sub(gone, 7)
      redis.call('HDEL', ties, gone)
    end
    if values then
      redis.call('HDEL', values, gone)
    end
    forget_score(window, tonumber(worst[at + 1]))
    if gone == member then
      window.gone = true
    end
  end
end

-- A merge may have given the board an end of its own: what begins beside it now ends with it.
local function expire(window)
  local expires = window.expires
  if expires == 0 and stride > 1 then
    local board = window.board
    expires = redis.call('PEXPIRETIME', board)
  end
  if window.expires == 0 and expires <= 0 then
    return
  end
  local command = expires > 0 and 'PEXPIREAT' or 'PEXPIRE'
  local when = digits(math.abs(expires))
  local board, values, ties, scores = window.board, window.data, window.ties, window.scores
  redis.call(command, board, when)
  if values then
    redis.call(command, values, when)
  end
  if ties then
    redis.call(command, ties, when)
  end
  if scores then
    redis.call(command, scores, when)
  end
end

local answers, changed = {}, false
for at, window in ipairs(windows) do
  local values = window.data
  local previous = window.old and rank_of(window, window.old) or 0
  local rank = previous
  if window.applied then
    local moved = window.old ~= window.new
    if moved then
      store(window)
    end
    if values and data ~= '' then
      redis.call('HSET', values, member, data)
    end
    if max_size > 0 then
      trim(window)
    end
    if window.gone then
      rank = 0
    elseif moved then
      rank = rank_of(window, window.new)
    end
    expire(window)
    changed = changed or moved
  end
  answers[at] = string.format('%d %d %s %s %d', rank, previous,
    digits(window.applied and window.new or window.old), window.old and digits(window.old) or '-',
    window.applied and 1 or 0)
end
local answer = table.concat(answers, ' ')
redis.call('SET', record, operation .. ' ' .. answer, 'PX', record_ttl)
-- A user who may not publish can write all the same: whoever watches looks by itself, too.
if changed and channel ~= '' then
  redis.pcall('PUBLISH', channel, '!')
end
return {0, answer}
