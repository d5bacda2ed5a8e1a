-- Operations on token buckets that need not be done together, as bucket.lua does them: most calls have no others, and Lua
-- takes half as long for them as with all that groups need. KEYS and ARGV are as in head.lua.
local call, pcall, unpack = redis.call, redis.pcall, struct.unpack
local floor, ceil, max, min, find = math.floor, math.ceil, math.max, math.min, string.find
local now, node, reporter = ARGV[1], 'n:' .. ARGV[2], 'r:' .. ARGV[2]
if now == '' then
  local t = call('TIME')
  now = t[1] * 1000000 + t[2]
else
  now = now + 0
end

-- whole reads a whole number of at most so much: nil if it is none.
local function whole(s, most)
  if not s or #s > 16 or not find(s, '^%d+$') then return nil end
  local x = tonumber(s)
  if x <= most then return x end
end

local function remember(key)
  if call('HLEN', key) < 4096 then return end
  for _, name in ipairs(call('HKEYS', key)) do
    if find(name, '^[nr]:') then call('HDEL', key, name) end
  end
end

local out = {}
for i = 3, #ARGV do
  local verb, _, k, _, seq, rate, burst, hits, want, back = unpack('<BBHHI4ddddd', ARGV[i])
  local key, v = KEYS[k]
  local status, granted, wait, total = 0, 0, 0, 0
  local seen, got, c -- the number of the last lease or report, what that got, and all that was reported
  if verb == 2 then
    v = pcall('HMGET', key, 'd', 't', node)
  elseif verb == 4 then
    v = pcall('HMGET', key, 'd', 't', reporter, 'c')
  else
    v = pcall('HMGET', key, 'd', 't')
  end
  local d, good, behind = v[1], true, false
  if d then
    local t = whole(v[2], 9007199254740991)
    if #d > 32 or not find(d, '^[%d.e+-]+$') then d = nil else d = tonumber(d) end
    good = t and d and d >= 0 and d <= 2199023255552
    if good then
      local elapsed = now - t
      if elapsed < 0 then elapsed, behind = 0, true end
      d = max(0, min(d - elapsed * rate, burst))
    end
    if good and verb == 2 and v[3] then
      local a, b = string.match(v[3], '^(%d+):(%d+)$')
      seen, got = whole(a, 4294967295), whole(b, 2199023255552)
      good = seen and got
    elseif good and verb == 4 then
      c = v[4] and whole(v[4], 9007199254740991) or not v[4] and 0
      if v[3] then seen = whole(v[3], 4294967295) end
      good = c and (seen or not v[3])
    end
  elseif v.err then
    if not find(v.err, '^WRONGTYPE') then call('HGET', key, 'd') end -- fails, too, and with it the script
    good = false
  else
    good = call('EXISTS', key) == 0
    d, c = 0, 0
  end

  if not good then
    status, d = 2, burst
  else
    local write, short, late, field, value = false, false, false, nil, nil
    if verb <= 1 then -- Take, Look
      if d + hits <= burst then
        status = 1
        if verb == 0 then d, write = d + hits, true end
      else
        short = true
      end
    elseif verb == 2 then -- Lease
      local ago = seen and seq ~= 0 and (seen - seq) % 4294967296
      late = ago and ago < 1024
      if late then
        if ago == 0 then granted, short = got, got == 0 and hits > 0 end -- an older one is answered to nobody
      else
        back = min(back, d)
        if seq ~= 0 then back = min(back, got or 0) end
        d = d - back
        granted = min(want, floor(burst - d))
        if granted < hits then granted, short = 0, true end
        write = granted > 0 or back > 0 or behind
        if granted > 0 or back > 0 then
          if seq ~= 0 then field, value = node, string.format('%.0f:%.0f', seq, granted) end
        end
      end
    elseif verb == 3 then -- Return
      if d > 0 then d, write = max(0, d - hits), true end
    else -- Report
      if hits > 0 and (seq == 0 or seen ~= seq) then
        d, c, write = min(burst, d + hits), min(9007199254740991, c + hits), true
        if seq ~= 0 then field, value = reporter, seq end
      else
        hits = 0
      end
      if want > d then d, write = min(burst, want), true end
      total = c
    end
    if short then
      if hits > burst then
        wait = -1
      else
        wait = max(1, ceil((d + hits - burst) / rate))
        if d - wait * rate + hits > burst then wait = wait + 1 end
      end
      write = write or behind and verb ~= 1 and not late
    end
    if verb == 2 and write then d = d + granted end
    if write then
      if field and not seen then remember(key) end
      if verb == 4 and hits > 0 then
        if field then call('HSET', key, 'd', d, 't', now, 'c', c, field, value) else call('HSET', key, 'd', d, 't', now, 'c', c) end
      elseif field then
        call('HSET', key, 'd', d, 't', now, field, value)
      else
        call('HSET', key, 'd', d, 't', now)
      end
      call('PEXPIRE', key, ceil(ceil(d / rate) / 1000) + 10000)
    end
  end
  local r = (i - 3) * 9
  out[r + 1], out[r + 2], out[r + 3], out[r + 4], out[r + 5] = status, granted, floor(burst - d), ceil(d / rate), wait
  out[r + 6], out[r + 7], out[r + 8], out[r + 9] = 0, 0, total, 0
end
return out
