-- Notes that a connection uses a once-window, and returns the windows for which this Redis has kept records, and since when.
--
-- KEYS: a hash. It has a field for each window, named by its length in ms. The value is two times in ms by Redis's clock: since when all records are kept for the
-- window, and when a connection last said that it uses the window. The field "keep" is how long every Save script keeps records, in ms: a quarter
-- longer than the widest window.
--
-- ARGV, all in ms: this connection's window; how long a window counts as used, beyond its own length, after a connection last spoke of it; how long
-- it may take until all connections have heard of a new window; the caller's clock, for a user that may not use TIME.
--
-- A window also holds for narrower ones. The first window of all holds since ever, as nobody knows which was used before. A window that nobody uses any more is
-- removed when a narrower one is in use.
--
-- The answer: keep, then each window up to this connection's, each followed by the time since which it holds, as ms ago; that may be below zero.

local call = redis.call
if redis.replicate_commands then redis.replicate_commands() end -- without it Redis 4 refuses to write after TIME
local mine, grace, lag, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.pcall('TIME')
if not clock.err then now = 1000 * clock[1] + math.floor(clock[2] / 1000) end

-- Read the windows, and find this connection's among them.
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
