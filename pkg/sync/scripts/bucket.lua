-- token_bucket and leaky_bucket: a hash of d, the debt in tokens when it was t, c, all that was reported, and n:<node>, the
-- number of that node's last lease and what it got, and r:<node>, that of its last report. o.p1 is the rate in tokens a microsecond, o.p2 the burst.
do
  local bucket = {}

  function bucket.load(key, o)
    local v = fields(key, 'd', 't', 'c', node, reporter)
    if v == nil then return BAD end
    local s = { key = key, d = 0, c = 0, seq = 0, got = 0 }
    if v == false then return s end
    local d, t, c = number(v[1], TOKENS), v[2] and whole(v[2], EXACT), whole(v[3], EXACT)
    if not (d and t and c) then return BAD end
    if v[4] then
      local seq, got = match(v[4], '^(%d+):(%d+)$')
      s.seq, s.got = seq and whole(seq, 4294967295), got and whole(got, TOKENS)
      if not (s.seq and s.got) then return BAD end
      s.known = true
    end
    if v[5] then
      s.last = whole(v[5], 4294967295)
      if not s.last then return BAD end
    end
    -- A clock that was set back ages nothing, and is followed by the first who may write.
    s.behind = now < t
    s.d, s.c = max(0, min(d - max(0, now - t) * o.p1, o.p2)), c
    return s
  end

  function bucket.copy(s)
    return { key = s.key, d = s.d, c = s.c, seq = s.seq, got = s.got, known = s.known, behind = s.behind,
      dirty = s.dirty, gone = s.gone, leased = s.leased, new = s.new, reported = s.reported, last = s.last, told = s.told, first = s.first }
  end

  function bucket.save(s, o)
    if s.gone then call('DEL', s.key) end
    if not s.dirty then return end
    if s.leased and s.new or s.told and s.first then remember(s.key) end
    call('HSET', s.key, 'd', s.d, 't', now)
    if s.reported then call('HSET', s.key, 'c', s.c) end
    if s.leased then call('HSET', s.key, node, string.format('%.0f:%.0f', s.seq, s.got)) end
    if s.told then call('HSET', s.key, reporter, s.last) end
    call('PEXPIRE', s.key, ceil(ceil(s.d / o.p1) / 1000) + GRACE)
  end

  function bucket.figures(s, o, r)
    out[r + 3], out[r + 4] = floor(o.p2 - s.d), ceil(s.d / o.p1)
  end

  function bucket.denied(s) if s.behind then s.dirty = true end end

  local function wait(s, o, hits)
    local w = max(1, ceil((s.d + hits - o.p2) / o.p1))
    if s.d - w * o.p1 + hits > o.p2 then w = w + 1 end
    return w
  end

  -- take says whether there are o.hits, and when their turn is.
  local function take(s, o, r)
    local d = s.d + o.hits
    if o.hits > o.p2 then
      out[r + 5] = NEVER
    elseif d > o.p2 then
      out[r + 5] = wait(s, o, o.hits)
    else
      out[r + 1] = 1
      if o.kind == 2 then out[r + 6] = max(0, ceil((d - 1) / o.p1)) end
      return d
    end
  end

  bucket[0] = function(s, o, r)
    local d = take(s, o, r)
    if d then
      s.d, s.dirty = d, true
      if o.kind == 2 then out[r + 9] = now + ceil(d / o.p1) end
    else
      bucket.denied(s)
    end
    return d
  end

  bucket[1] = function(s, o, r) take(s, o, r) end

  bucket[2] = function(s, o, r)
    local ago = late(s, o.seq)
    if ago then
      if ago > 0 then return end -- an older one is answered to nobody
      out[r + 2] = s.got
      if s.got == 0 and o.hits > 0 then out[r + 5] = o.hits > o.p2 and NEVER or wait(s, o, o.hits) end
      return
    end
    local back = min(o.back, s.d)
    if o.seq ~= 0 then back = min(back, s.got) end
    s.d = s.d - back
    local got = min(o.want, floor(o.p2 - s.d))
    if got < o.hits then
      got = 0
      out[r + 5] = o.hits > o.p2 and NEVER or wait(s, o, o.hits)
    end
    s.d = s.d + got
    if got > 0 or back > 0 then
      s.dirty = true
      if o.seq ~= 0 then s.seq, s.got, s.leased, s.new, s.known = o.seq, got, true, s.new or not s.known, true end
    else
      bucket.denied(s)
    end
    out[r + 2] = got
  end

  -- Of a leaky bucket o.grant is when its turn was: others may be behind it, who were told when theirs is.
  bucket[3] = function(s, o)
    if s.d == 0 then return end
    if o.kind == 2 and o.grant ~= 0 and now + ceil(s.d / o.p1) > o.grant + 1 then return end
    s.d, s.dirty = max(0, s.d - o.hits), true
  end

  bucket[4] = function(s, o, r)
    if o.hits > 0 and (o.seq == 0 or s.last ~= o.seq) then
      s.d, s.c = min(o.p2, s.d + o.hits), min(EXACT, s.c + o.hits)
      s.dirty, s.reported = true, true
      if o.seq ~= 0 then s.first, s.last, s.told = s.first or not s.last, o.seq, true end
    end
    if o.want > s.d then s.d, s.dirty = min(o.p2, o.want), true end
    out[r + 8] = s.c
  end

  bucket[5] = function(s) return { key = s.key, d = 0, c = 0, seq = 0, got = 0, gone = true } end

  families[1], families[2] = bucket, bucket
end
