-- Gives dead messages another life, oldest first, as if they had just been enqueued with their old age.
--
-- INCLUDE _queue
-- ARGV[1] most        count   of messages
-- ARGV[2] chosen      text    ids with blanks; empty for the oldest ones
-- RETURN[1] redriven  count   of messages
-- READ-ONLY no
-- REPLAY-SAFE no
--
local most = tonumber(ARGV[1])
local chosen = ARGV[2]

local ids = {}
if chosen == '' then
  ids = redis.call('ZRANGE', dead, 0, most - 1)
else
  for id in string.gmatch(chosen, '%d+') do
    ids[#ids + 1] = id
  end
end
local redriven = 0
for _, id in ipairs(ids) do
  local envelope = redis.call('ZREM', dead, id) == 1 and redis.call('HGET', messages, id)
  if envelope then
    local about = facts(envelope)
    redis.call('HDEL', failures, id)
    about.delay, about.at = nil, nil
    admit(id, about)
    redriven = redriven + 1
  end
end
if redriven > 0 then
  wake_consumer()
end
return {redriven}
