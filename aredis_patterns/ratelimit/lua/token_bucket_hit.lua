-- Takes tokens from a bucket that refills all the time, or refuses.
--
-- One token is `scale` parts, and `rate` parts flow in each microsecond: integers below 2^53 throughout, so nothing is
-- ever rounded and the wait is exact. The scale is stored with the level, which is converted when the limit changes.
-- A level dated after now means that the clock went back: the bucket stops refilling until then. If that is more than
-- a whole refill ahead, it is dated now, even when the request is refused. No other refusal writes.
--
-- KEYS[1] bucket           string  <ns>:rl:bucket:<name>:{<key>}  "<level in parts>:<scale>:<date of the level in us>"
-- ARGV[1] capacity         units   tokens in a full bucket
-- ARGV[2] scale            parts   in one token
-- ARGV[3] rate             parts   flowing in per microsecond
-- ARGV[4] cost             units   what this request needs
-- ARGV[5] charge           0|1     0 looks only
-- RETURN[1] allowed        0|1     whether the cost fits
-- RETURN[2] remaining      units   whole tokens left after this request
-- RETURN[3] retry_after    us      until the same request fits; 0 allowed, -1 never
-- RETURN[4] reset_after    us      until the bucket is full
-- READ-ONLY no
-- REPLAY-SAFE no
--
local bucket = KEYS[1]
local capacity = tonumber(ARGV[1])
local scale = tonumber(ARGV[2])
local rate = tonumber(ARGV[3])
local cost = tonumber(ARGV[4])
local charge = tonumber(ARGV[5])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = capacity * scale
local level, date, mended = full, now, false

local stored_level, stored_scale, stored_date =
  string.match(redis.call('GET', bucket) or '', '^(%d+):(%d+):(%d+)$')
if stored_level then
  level, stored_scale, stored_date = tonumber(stored_level), tonumber(stored_scale), tonumber(stored_date)
  if stored_scale ~= scale then
    level = math.floor(level / stored_scale * scale)
  end
  mended = stored_date > now + math.ceil(full / rate)
  if not mended then
    date = math.max(now, stored_date)
    level = level + (date - stored_date) * rate
  end
  level = math.min(full, level)
end

local function until_level(wanted)
  return date - now + math.ceil((wanted - level) / rate)
end

local needed = cost * scale
local allowed, retry_after = 1, 0
if needed > level then
  allowed, retry_after = 0, cost > capacity and -1 or until_level(needed)
end
if charge == 1 and allowed == 1 then
  level = level - needed
end
local reset_after = level < full and until_level(full) or 0
if charge == 1 and (allowed == 1 or mended) then
  local ttl = math.max(1, math.ceil(reset_after / 1000))
  redis.call('SET', bucket, string.format('%.0f:%.0f:%.0f', level, scale, date), 'PX', string.format('%.0f', ttl))
end
return {allowed, math.floor(level / scale), retry_after, reset_after}
