-- concurrency: a sorted set of what is in flight, by when it is taken for over. A grant of several hits has a member for
-- each. o.p1 is the window in microseconds, o.p2 the limit.
do
  local flight = {}

  local function member(o, i) return o.name .. ':' .. i end

  function flight.load(key)
    local v = pcall('ZREVRANGE', key, 0, 0, 'WITHSCORES')
    if v.err then
      if find(v.err, '^WRONGTYPE') then return BAD end
      call('ZREVRANGE', key, 0, 0, 'WITHSCORES') -- fails again, and with it the script
    end
    local s = { key = key, n = 0, last = 0, add = {}, del = {} }
    if not v[1] then return s end
    s.last = tonumber(v[2])
    if not s.last or s.last > EXACT then return BAD end
    s.n = call('ZCOUNT', key, '(' .. string.format('%.0f', now), '+inf')
    return s
  end

  function flight.copy(s)
    local c = { key = s.key, n = s.n, last = s.last, dirty = s.dirty, gone = s.gone, trim = s.trim, add = {}, del = {} }
    for m, score in pairs(s.add) do c.add[m] = score end
    for m in pairs(s.del) do c.del[m] = true end
    return c
  end

  -- trim ends what began before the clock was set back, or under a longer window, a window from now.
  local function trim(s, o)
    local late = call('ZRANGEBYSCORE', s.key, '(' .. string.format('%.0f', now + o.p1), '+inf')
    for _, m in ipairs(late) do call('ZADD', s.key, now + o.p1, m) end
  end

  function flight.save(s, o)
    if s.gone then call('DEL', s.key) end
    if s.trim then trim(s, o) end
    if not s.dirty then return end
    call('ZREMRANGEBYSCORE', s.key, '-inf', now)
    for m in pairs(s.del) do call('ZREM', s.key, m) end
    for m, score in pairs(s.add) do call('ZADD', s.key, score, m) end
    call('PEXPIRE', s.key, ceil(o.p1 / 1000) + GRACE)
  end

  function flight.figures(s, o, r)
    out[r + 3], out[r + 4] = max(0, o.p2 - s.n), s.n > 0 and max(0, min(s.last, now + o.p1) - now) or 0
  end

  function flight.denied(s, o) if s.last > now + o.p1 then s.trim = true end end

  -- alive tells whether a member is in flight.
  local function alive(s, m)
    if s.add[m] then return true end
    if s.del[m] or s.gone then return false end
    local score = call('ZSCORE', s.key, m)
    return score and tonumber(score) > now
  end

  -- Who asks again under the same name has it already: the first answer was lost.
  local function take(s, o, r)
    if alive(s, member(o, 1)) then
      out[r + 1], out[r + 9] = 1, 0
      return false
    end
    if s.n + o.hits <= o.p2 then
      out[r + 1] = 1
      return true
    end
    out[r + 5] = o.hits > o.p2 and NEVER or min(o.p1, 1000000) -- when others end nobody knows
    return nil
  end

  flight[0] = function(s, o, r)
    local new = take(s, o, r)
    if new then
      for i = 1, o.hits do
        local m = member(o, i)
        s.add[m], s.del[m] = now + o.p1, nil
      end
      s.n, s.last, s.dirty = s.n + o.hits, max(s.last, now + o.p1), true
    elseif new == nil then
      flight.denied(s, o)
    end
    return new ~= nil
  end

  flight[1] = function(s, o, r) take(s, o, r) end

  flight[3] = function(s, o)
    for i = 1, o.hits do
      local m = member(o, i)
      if alive(s, m) then
        s.add[m], s.del[m] = nil, true
        s.n, s.dirty = s.n - 1, true
      end
    end
  end

  flight[5] = function(s) return { key = s.key, n = 0, last = 0, add = {}, del = {}, gone = true } end

  families[5] = flight
end
