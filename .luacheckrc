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
