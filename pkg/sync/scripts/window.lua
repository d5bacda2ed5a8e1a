-- fixed_window and sliding_window: a hash of w, when the window began, c and p, the hits of it and of the one before, t and
-- u, when the last of them came, and n:<node>, the number of that node's last lease, what it got and of which window.
-- Windows begin at multiples of o.p1 microseconds; o.p2 is the limit. sliding_window is as in pkg/limiter.
do
  local window = {}

  -- shift brings a window that began at w up to the present one. A clock that was set back by less than a window waits for
  -- it in the one that it had come to; set back further, what was counted counts for the present one.
  local function shift(s, length)
    local start = now - now % length
    if s.w == start then return end
    if s.w > start then
      if s.w - start > length then
        s.w, s.behind = start, true
        s.t, s.u = min(s.t, start + length), min(s.u, start)
      end
      return
    end
    if start - s.w <= length then
      s.p, s.u = s.c, min(s.t, start)
    else
      s.p, s.u = 0, 0
    end
    s.w, s.c, s.t = start, 0, 0
  end

  function window.load(key, o)
    local v = fields(key, 'w', 'c', 'p', 't', 'u', node)
    if v == nil then return BAD end
    local s = { key = key, w = now - now % o.p1, c = 0, p = 0, t = 0, u = 0, seq = 0, got = 0, of = 0 }
    if v == false then return s end
    s.w, s.c, s.p = whole(v[1], EXACT), v[2] and whole(v[2], TOKENS), whole(v[3], TOKENS)
    s.t, s.u = whole(v[4], EXACT), whole(v[5], EXACT)
    if not (s.w and s.c and s.p and s.t and s.u) then return BAD end
    if v[6] then
      local seq, got, of = match(v[6], '^(%d+):(%d+):(%d+)$')
      s.seq, s.got, s.of = seq and whole(seq, 4294967295), got and whole(got, TOKENS), of and whole(of, EXACT)
      if not (s.seq and s.got and s.of) then return BAD end
      s.known = true
    end
    shift(s, o.p1)
    return s
  end

  function window.copy(s)
    return { key = s.key, w = s.w, c = s.c, p = s.p, t = s.t, u = s.u, seq = s.seq, got = s.got, of = s.of,
      known = s.known, behind = s.behind, dirty = s.dirty, gone = s.gone, leased = s.leased, new = s.new }
  end

  function window.save(s, o)
    if s.gone then call('DEL', s.key) end
    if not s.dirty then return end
    if s.leased and s.new then remember(s.key) end
    call('HSET', s.key, 'w', s.w, 'c', s.c, 'p', s.p, 't', s.t, 'u', s.u)
    if s.leased then call('HSET', s.key, node, string.format('%.0f:%.0f:%.0f', s.seq, s.got, s.of)) end
    local windows = o.kind == 4 and 2 or 1
    call('PEXPIRE', s.key, ceil((s.w + windows * o.p1 - now) / 1000) + GRACE)
  end

  function window.denied(s) if s.behind then s.dirty = true end end

  -- covered is what the window before still counts for.
  local function covered(s, o)
    if o.kind == 3 or s.p == 0 or now >= s.u + o.p1 then return 0 end
    return min(o.p2, ceil(s.p * min(o.p1, s.w + o.p1 - now) / o.p1))
  end

  local function full(s, o)
    if o.kind == 3 then return s.c > 0 and s.w + o.p1 - now or 0 end
    if s.c > 0 then return max(0, s.t + o.p1 - now) end
    if covered(s, o) > 0 then return min(s.u, s.w) + o.p1 - now end
    return 0
  end

  function window.figures(s, o, r)
    out[r + 3], out[r + 4] = max(0, o.p2 - covered(s, o) - s.c), full(s, o)
  end

  -- fits is how far into a window the hits of the one before count as most at most.
  local function fits(before, most, length)
    if before <= most then return 0 end
    local after = ceil(length * (before - most) / before)
    if ceil(before * (length - after) / length) > most then after = after + 1 end
    return after
  end

  local function wait(s, o)
    local rest = s.w + o.p1 - now
    if o.hits > o.p2 then return NEVER end
    if o.kind == 3 then return rest end
    if s.c + o.hits <= o.p2 then
      return max(1, min(fits(s.p, o.p2 - s.c - o.hits, o.p1) - o.p1 + rest, s.u + o.p1 - now))
    end
    return max(1, rest, min(rest + fits(s.c, o.p2 - o.hits, o.p1), s.t + o.p1 - now))
  end

  local function take(s, o, r)
    if s.c + o.hits <= o.p2 - covered(s, o) then
      out[r + 1], out[r + 9] = 1, s.w
      return true
    end
    out[r + 5] = wait(s, o)
    return false
  end

  window[0] = function(s, o, r)
    local admitted = take(s, o, r)
    if admitted then
      s.c, s.t, s.dirty = s.c + o.hits, max(s.t, now), true
    else
      window.denied(s)
    end
    return admitted
  end

  window[1] = function(s, o, r) take(s, o, r) end

  -- giveback takes n off the window that began at w, if it still counts, and says whether that was any.
  local function giveback(s, o, n, w)
    if w == s.w then
      n = min(n, s.c)
      s.c = s.c - n
    elseif o.kind == 4 and w < s.w and w >= s.w - o.p1 then
      n = min(n, s.p)
      s.p = s.p - n
    else
      n = 0
    end
    return n > 0
  end

  -- What was leased may be used until the window ends, so that it counts as late as that.
  window[2] = function(s, o, r)
    local good = s.w + o.p1 - now
    local ago = late(s, o.seq)
    if ago then
      if ago > 0 then return end
      if s.of == s.w and s.got > 0 then
        out[r + 2], out[r + 7], out[r + 9] = s.got, good, s.w
      elseif o.hits > 0 then
        out[r + 5] = s.c + o.hits <= o.p2 - covered(s, o) and 1 or wait(s, o)
      end
      return
    end
    local given
    if o.seq == 0 then given = giveback(s, o, o.back, s.w) else given = giveback(s, o, min(o.back, s.got), s.of) end
    local got = min(o.want, max(0, o.p2 - covered(s, o) - s.c))
    if got < o.hits then
      got = 0
      out[r + 5] = wait(s, o)
    end
    if got > 0 then s.c, s.t = s.c + got, s.w + o.p1 end
    if got > 0 or given then
      s.dirty = true
      if o.seq ~= 0 then
        s.seq, s.got, s.of, s.leased, s.new, s.known = o.seq, got, s.w, true, s.new or not s.known, true
      end
    else
      window.denied(s)
    end
    out[r + 2] = got
    if got > 0 then out[r + 7], out[r + 9] = good, s.w end
  end

  window[3] = function(s, o)
    local of = o.grant
    if of == 0 then of = s.known and s.of or s.w end
    if giveback(s, o, o.hits, of) then s.dirty = true end
  end

  window[5] = function(s, o)
    return { key = s.key, w = now - now % o.p1, c = 0, p = 0, t = 0, u = 0, seq = 0, got = 0, of = 0, gone = true }
  end

  families[3], families[4] = window, window
end
