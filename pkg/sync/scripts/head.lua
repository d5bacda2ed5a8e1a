-- Operations on buckets that nodes share: see op.go, and model*.go, which computes the same to the last bit. script.go puts
-- this file, those of the algorithms that a call needs and tail.lua together.
--
-- KEYS are the buckets, each once. ARGV[1] is the time in microseconds, or empty for Redis' own; ARGV[2] the node; each of
-- the others an operation. Keys are read when first needed and written at the end, so that what fails changed nothing.
local call, pcall = redis.call, redis.pcall
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local find, match = string.find, string.match
local EXACT, TOKENS, NEVER, GRACE = 9007199254740991, 2199023255552, -1, 10000
local BAD = {}
local now, node, reporter = ARGV[1], 'n:' .. ARGV[2], 'r:' .. ARGV[2]
if now == '' then
  local t = call('TIME')
  now = t[1] * 1000000 + t[2]
else
  now = now + 0
end
local out = {}

-- number reads what weir wrote: digits of a double that is neither negative nor more than most. Else nil.
local function number(s, most)
  if #s > 32 or not find(s, '^[%d.e+-]+$') then return nil end
  local x = tonumber(s)
  if x and x >= 0 and x <= most then return x end
end

local function whole(s, most)
  if s == false then return 0 end
  if #s > 16 or not find(s, '^%d+$') then return nil end
  local x = tonumber(s)
  if x <= most then return x end
end

-- fields reads a hash: nil if the key is of another type, and false if there is none.
local function fields(key, ...)
  local v = pcall('HMGET', key, ...)
  if v.err then
    if find(v.err, '^WRONGTYPE') then return nil end
    call('HMGET', key, ...) -- fails again, and with it the script
  end
  if v[1] then return v end
  if call('EXISTS', key) == 1 then return nil end
  return false
end

-- MOSTLEASES is of how many nodes a bucket remembers the last lease or report; more are nodes that are gone.
local MOSTLEASES = 4096

-- remember makes room for a node that is new to this bucket.
local function remember(key)
  if call('HLEN', key) < MOSTLEASES then return end
  for _, name in ipairs(call('HKEYS', key)) do
    if find(name, '^[nr]:') then call('HDEL', key, name) end
  end
end

-- late says how many leases ago one was made of which a later is known: 0 for the last itself, and nil for a new one, or one
-- that a node numbers anew.
local function late(s, seq)
  local ago = (s.seq - seq) % 4294967296
  if s.known and seq ~= 0 and ago < 1024 then return ago end
end

-- load, copy, save, figures and denied of a family, and under the numbers of the verbs what they do. denied notes what has to
-- be written although nothing was taken: a clock that was set back.
local families = {}
