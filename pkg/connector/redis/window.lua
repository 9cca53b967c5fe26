-- Says which once-windows this Redis has kept records for, and since when. KEYS: a hash with a field for each window, in ms:
-- since when all records are kept for it, and when a connection last said that it uses it, in ms by Redis's clock. Its field
-- keep is how long every script keeps records, in ms: a quarter longer than the widest window.
--
-- ARGV, in ms: this connection's window; how long a window counts as used beyond itself after its last sign; how long it may
-- take until other connections have heard of a new window; the caller's clock, where TIME is not allowed.
--
-- A window that is there holds for narrower ones, too. The first one of all holds for ever: nobody knows what was before. One
-- that nobody uses any more goes when a narrower one is in use.
--
-- The answer: keep, then each window up to this connection's with how long ago it began to hold, which may be below zero.

local call = redis.call
if redis.replicate_commands then redis.replicate_commands() end -- Redis 4 writes nothing after TIME without it
local mine, grace, lag, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.pcall('TIME')
if not clock.err then now = 1000 * clock[1] + math.floor(clock[2] / 1000) end

-- The windows, and this connection's among them.
local all, own = {}, nil
local flat = call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local since, last = string.match(flat[i + 1], '^(%d+) (%d+)$')
  if since then
    local w = {size = tonumber(flat[i]), since = tonumber(since), last = tonumber(last)}
    all[#all + 1] = w
    if w.size == mine then own = w end
  end
end

local first, shared, since, widest = #all == 0, false, nil, mine
for _, w in ipairs(all) do
  if w.last + w.size + grace >= now then -- it is in use
    widest, shared = math.max(widest, w.size), shared or w ~= own
  end
  if w.size >= mine then since = math.min(since or w.since, w.since) end
end
if not since then
  since = first and 0 or now
  if shared then since = since + lag end
end
if not own then
  own = {size = mine}
  all[#all + 1] = own
end
own.since, own.last = since, now

local keep = math.floor(widest * 1.25)
local answer, fields = {keep}, {'keep', string.format('%.0f', keep)}
for _, w in ipairs(all) do
  local gone = w.size > widest
  for _, wider in ipairs(all) do -- batches from before a wider one began to hold are too old for this one by now
    gone = gone or w ~= own and wider.size <= widest and wider.size > w.size and wider.since + w.size + grace < now
  end
  if gone then
    call('HDEL', KEYS[1], string.format('%.0f', w.size))
  else
    fields[#fields + 1], fields[#fields + 2] = string.format('%.0f', w.size), string.format('%.0f %.0f', w.since, w.last)
    if w.size <= mine then answer[#answer + 1], answer[#answer + 2] = w.size, now - w.since end
  end
end
call('HSET', KEYS[1], unpack(fields))
return answer
