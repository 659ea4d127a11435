-- What all scripts of this family share: put in front of each by `_scripts.py`, with the algorithms that it needs.
--
-- An algorithm has two functions. `look` reads a key and says whether a cost fits; it writes nothing:
--
--     allowed, remaining, retry_after, reset_after, mended, s1, s2, s3 = look(key, now, limit, a, b, cost)
--
-- `take` writes what `look` found, with the cost on top, and says what is left. A cost may be more than fits (a debt)
-- or negative (units come back):
--
--     remaining, reset_after = take(key, now, limit, a, b, cost, mended, s1, s2, s3)
--
-- Times are us, numbers are integers below 2^53.
--
-- The clock may go back. Nothing is given away then, and what was counted stays counted until the clock has caught up.
-- When that is further than a state can reach (`mended`), the state begins again now, and is written even by a refusal.

local algorithms = {}

-- Lua writes large numbers with 14 digits unless told otherwise; redis.call does not.
local function digits(number)
  return string.format('%.0f', number)
end

local function keep(key, value, us)
  redis.call('SET', key, value, 'PX', math.max(1, math.ceil(us / 1000)))
end
