package deadletter

import goredis "github.com/redis/go-redis/v9"

// The keys of one flow, below Config.Prefix. The hash tag {FLOW} keeps them on one node of a Redis Cluster:
//
//	{FLOW}:letters  a stream: one entry for each letter, in the order in which they were kept, with its id and its record
//	{FLOW}:changes  a hash: entry → the record that replaces the entry's record, after an edit, or after the row died again
//	{FLOW}:index    a hash: letter's id → entry
//	{FLOW}:begun    a hash: letter's id → when a redrive of it began, in milliseconds, until the end of the redrive is known
//	{FLOW}:gone     a sorted set: ids of letters that were settled or dropped, by the time, so that a row that runs again late is not
//	                kept again
//	{FLOW}:counts   a hash: the numbers "refused" and "expired"
//	{FLOW}:redrive  the holder of the lock; expires
//
// One more key, the set "flows", has the names of the flows.

// Limits for the arguments of one script, because Redis does nothing else while a script runs: the number of letters, and the bytes of
// their records.
const (
	scriptLetters = 500
	scriptBytes   = 4 << 20
)

// scriptKeys are the last parts of the keys that most scripts get, in this order. pageScript and lockScript get other keys.
var scriptKeys = []string{"letters", "changes", "index", "begun", "gone", "counts"}

// pageBytes is the limit for the letters of one page, in bytes. A single letter may be larger.
const pageBytes = 8 << 20

// pageScript finds the last entry of a page.
// KEYS: the flow's letters and changes. ARGV: the first and last entry that may be in the page, the limit for the number of letters, and that for
// their bytes. Returns the entry; the page has at least one, so an empty answer means that there is none in that range.
var pageScript = goredis.NewScript(`
local start, last, bytes = ARGV[1], '', 0
for n = 1, tonumber(ARGV[3]) do
  local entry = redis.call('XRANGE', KEYS[1], start, ARGV[2], 'COUNT', 1)[1]
  if not entry then break end
  bytes = bytes + redis.call('HSTRLEN', KEYS[2], entry[1])
  for _, text in ipairs(entry[2]) do bytes = bytes + #text end
  if n > 1 and bytes > tonumber(ARGV[4]) then break end
  last, start = entry[1], '(' .. entry[1]
end
return last`)

// findScript finds the entries of letters by their ids.
// ARGV: the limit in bytes, then the ids. Returns, for each id that it got to, the entry, or an empty text if there is no such letter. It gets to one
// at least, and stops before the limit.
var findScript = goredis.NewScript(`
local entries, bytes = {}, 0
for i = 2, #ARGV do
  local place = redis.call('HGET', KEYS[3], ARGV[i]) or ''
  local entry = place ~= '' and redis.call('XRANGE', KEYS[1], place, place)[1]
  if entry then
    bytes = bytes + redis.call('HSTRLEN', KEYS[2], place)
    for _, text in ipairs(entry[2]) do bytes = bytes + #text end
    if i > 2 and bytes > tonumber(ARGV[1]) then break end
  end
  entries[#entries + 1] = place
end
return entries`)

// prelude is the beginning of most scripts: names for the keys, the time in milliseconds, and a function that removes a letter.
const prelude = `
local letters, changes, index, begun, gone, counts = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function forget(id, entry)
  redis.call('XDEL', letters, entry)
  redis.call('HDEL', changes, entry)
  redis.call('HDEL', index, id)
  redis.call('HDEL', begun, id)
  redis.call('ZADD', gone, now, id)
end
`

// expireScript removes the oldest letters that are older than a limit, 1,000 of them at most.
// ARGV: the limit in milliseconds. Returns how many it has removed.
var expireScript = goredis.NewScript(prelude + `
local before = now - tonumber(ARGV[1])
local old = redis.call('XRANGE', letters, '-', before, 'COUNT', 1000)
for _, entry in ipairs(old) do
  local changed = redis.call('HGET', changes, entry[1])
  forget(changed and cjson.decode(changed)['id'] or entry[2][2], entry[1])
end
if #old > 0 then redis.call('HINCRBY', counts, 'expired', #old) end
return #old`)

// keepScript keeps letters. It asks for all ids at once, and writes the index at once, because each command of a script costs Redis about as
// much as the work that it does.
// ARGV: the limit for the number of letters, and for how many milliseconds to remember ids of letters that are gone; then for each letter its id and
// its record. Returns 1 for each letter that is kept, or was kept once, and 0 for each that has no room.
var keepScript = goredis.NewScript(prelude + `
local most = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', gone, '-inf', now - tonumber(ARGV[2]))
local n, forgotten = redis.call('XLEN', letters), redis.call('ZCARD', gone) > 0
local ids, added, verdicts, refused = {}, {}, {}, 0
for i = 3, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local known = redis.call('HMGET', index, unpack(ids))
for i, id in ipairs(ids) do
  local kept = 1
  if not known[i] and not added[id] and not (forgotten and redis.call('ZSCORE', gone, id)) then
    if n < most then
      local entry = redis.call('XADD', letters, '*', 'id', id, 'letter', ARGV[2 * i + 2])
      added[#added + 1], added[#added + 2] = id, entry
      added[id] = true
      n = n + 1
    else
      kept, refused = 0, refused + 1
    end
  end
  verdicts[i] = kept
end
if #added > 0 then redis.call('HSET', index, unpack(added)) end
if refused > 0 then redis.call('HINCRBY', counts, 'refused', refused) end
return verdicts`)

// settleScript removes redriven letters, and puts others in their places.
// ARGV: for each letter its id, the number of letters that take its place, and the id and record of each of those. The first of them takes over the
// letter's entry, and so its place in the order; it may be the letter itself. The others get new entries.
var settleScript = goredis.NewScript(prelude + `
local i = 1
while i <= #ARGV do
  local id, n = ARGV[i], tonumber(ARGV[i + 1])
  local entry = redis.call('HGET', index, id)
  if entry then
    if n == 0 then
      forget(id, entry)
    else
      redis.call('HDEL', index, id)
      redis.call('HDEL', begun, id)
      if ARGV[i + 2] ~= id then redis.call('ZADD', gone, now, id) end
      for k = 0, n - 1 do
        local child, record = ARGV[i + 2 + 2 * k], ARGV[i + 3 + 2 * k]
        if k == 0 then
          redis.call('HSET', index, child, entry)
          redis.call('HSET', changes, entry, record)
        elseif redis.call('HEXISTS', index, child) == 0 then
          redis.call('HSET', index, child, redis.call('XADD', letters, '*', 'id', child, 'letter', record))
        end
      end
    end
  end
  i = i + 2 + 2 * n
end
return 1`)

// beginScript notes that redrives of letters begin.
// ARGV: the letters' ids. Returns for each the time, in milliseconds, when its redrive began: an earlier time if an earlier redrive was cut off, and 0
// if the letter is gone.
var beginScript = goredis.NewScript(prelude + `
local since = {}
for i, id in ipairs(ARGV) do
  since[i] = 0
  if redis.call('HEXISTS', index, id) == 1 then
    redis.call('HSETNX', begun, id, now)
    since[i] = tonumber(redis.call('HGET', begun, id))
  end
end
return since`)

// dropScript removes letters.
// ARGV: the letters' ids. Returns how many of them were there.
var dropScript = goredis.NewScript(prelude + `
local n = 0
for _, id in ipairs(ARGV) do
  local entry = redis.call('HGET', index, id)
  if entry then
    forget(id, entry)
    n = n + 1
  end
end
return n`)

// lockScript takes, renews or releases the lock of a flow's letters.
// KEYS: the flow's redrive. ARGV: the holder, and for how many milliseconds; 0 releases the lock. Returns 1, or 0 if somebody else holds it.
var lockScript = goredis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return 1`)
