-- What a script finds inside Redis 7 and Valkey: Lua 5.1 without io, os, require, load* and coroutine.
stds.redis = {
    read_globals = {
        "KEYS", "ARGV", "redis", "cjson", "cmsgpack", "bit", "struct",
        "assert", "error", "ipairs", "next", "pairs", "pcall", "select", "tonumber", "tostring", "type", "unpack",
        "xpcall", "rawequal", "rawget", "getmetatable", "setmetatable", "math", "string", "table",
    },
}
std = "redis"
max_line_length = 120

-- The scripts of a queue share one part, which is put before each of them (see `Script.load`).
local part = {
    "messages", "ready", "leases", "delayed", "failures", "dead", "keyed", "rounds", "dedup", "consumers", "producers",
    "counters", "paused", "answer", "now", "digits", "facts", "front", "put_back", "join", "resume", "admit", "leave",
    "fail", "bury", "heard", "wake_consumer", "wake_producer", "last_turn", "remember",
}
files["**/queues/lua/_queue.lua"] = { ignore = { "211", "231" } } -- defined here, used there
for _, name in ipairs({ "enqueue", "turn", "commit", "cancel", "redrive", "resume" }) do
    files["**/queues/lua/" .. name .. ".lua"] = { read_globals = part }
end

-- The limiters share the arithmetic of their algorithms.
files["**/ratelimit/lua/*.lua"] = { read_globals = { "algorithms", "digits", "keep" } }
files["**/ratelimit/lua/_*.lua"] = { globals = { "algorithms" }, ignore = { "211", "121", "122" } }

-- The scripts of one entry of a cache, too.
files["**/caching/lua/_entry.lua"] = { ignore = { "211" } }
local entry = {
    "value", "lease", "writers", "epoch", "tags", "digits", "version_now", "counts", "judge", "stored_by", "store", "wake",
    "beat_writers", "open_writer", "open_writers",
}
for _, name in ipairs({ "read", "fill", "fail", "invalidate", "write_begin", "write_commit", "put" }) do
    files["**/caching/lua/" .. name .. ".lua"] = { read_globals = entry }
end
