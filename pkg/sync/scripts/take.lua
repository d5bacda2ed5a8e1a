-- Take of a single token_bucket, as bucket.lua does it: KEYS[1] the bucket, ARGV the hits, the rate in tokens a microsecond,
-- the burst, and the time or nothing. Answers status, left, full, wait.
local v = redis.pcall('HMGET', KEYS[1], 'd', 't')
local hits, rate, burst, now = ARGV[1] + 0, ARGV[2] + 0, ARGV[3] + 0, ARGV[4]
if now then
  now = now + 0
else
  local t = redis.call('TIME')
  now = t[1] * 1000000 + t[2]
end
local d, t = v[1], v[2]
local behind = false
if d then
  if not t or #d > 32 or #t > 16 or not string.find(d, '^[%d.e+-]+$') or not string.find(t, '^%d+$') then return { 2, 0, 0, 0 } end
  d, t = tonumber(d), tonumber(t)
  if not d or not (d >= 0 and d <= 2199023255552) or t > 9007199254740991 then return { 2, 0, 0, 0 } end
  local elapsed = now - t
  if elapsed < 0 then elapsed, behind = 0, true end
  d = d - elapsed * rate
  if d > burst then d = burst end
  if d < 0 then d = 0 end
elseif v.err then
  if string.find(v.err, '^WRONGTYPE') then return { 2, 0, 0, 0 } end
  redis.call('HMGET', KEYS[1], 'd', 't') -- fails again, and with it the script
else
  if redis.call('EXISTS', KEYS[1]) == 1 then return { 2, 0, 0, 0 } end
  d = 0
end
local ceil, status, wait = math.ceil, 0, 0
if hits > burst then
  wait = -1
elseif d + hits > burst then
  wait = math.max(1, ceil((d + hits - burst) / rate))
  if d - wait * rate + hits > burst then wait = wait + 1 end
else
  d, status = d + hits, 1
end
local full = ceil(d / rate)
if status == 1 or behind then
  redis.call('HSET', KEYS[1], 'd', d, 't', now)
  redis.call('PEXPIRE', KEYS[1], ceil(full / 1000) + 10000)
end
return { status, math.floor(burst - d), full, wait }
