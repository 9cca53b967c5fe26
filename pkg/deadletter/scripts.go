package deadletter

import goredis "github.com/redis/go-redis/v9"

// Each flow has its keys, which one hash tag keeps together:
//
//	…{FLOW}:letters  the stream: one entry for each letter, in the order in which they were kept, with its id and its record
//	…{FLOW}:changes  a hash: entry → the record that has taken the entry's place, as it was edited or died again
//	…{FLOW}:index    a hash: letter's id → entry
//	…{FLOW}:begun    a hash: letter's id → when a redrive of it began, in milliseconds, until it is known how that ended
//	…{FLOW}:gone     a sorted set: ids of letters that are no more, by when they went, so that a row which runs again late is
//	                 not kept again
//	…{FLOW}:counts   a hash: refused, expired
//	…{FLOW}:redrive  who redrives the flow; expires
//
// and one set beside them has the flows.

// scriptKeys are the keys that each script gets, in this order.
var scriptKeys = []string{"letters", "changes", "index", "begun", "gone", "counts"}

// pageBytes bounds the letters of a page together, unless it is one alone.
const pageBytes = 8 << 20

// pageScript finds the last entry of a page: of those from ARGV[1] to ARGV[2] as many as ARGV[3] and ARGV[4] bytes allow, and at
// least one. An empty answer: there is none.
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

// findScript finds the entries of letters, as many as ARGV[1] bytes allow, and at least one.
// ARGV: the bytes, then the letters' ids. Returns the entry of each that it came to; none for one that is not there.
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

// prelude is what scripts have in common.
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

// expireScript forgets the oldest letters that are over their age, a thousand at the most.
// ARGV: the age in milliseconds. Returns how many.
var expireScript = goredis.NewScript(prelude + `
local before = now - tonumber(ARGV[1])
local old = redis.call('XRANGE', letters, '-', before, 'COUNT', 1000)
for _, entry in ipairs(old) do
  local changed = redis.call('HGET', changes, entry[1])
  forget(changed and cjson.decode(changed)['id'] or entry[2][2], entry[1])
end
if #old > 0 then redis.call('HINCRBY', counts, 'expired', #old) end
return #old`)

// keepScript keeps letters.
// ARGV: the most letters, for how many milliseconds to know those that are gone; then for each letter its id and its record.
// Returns for each 1 where it is kept, or was once, 0 where there is no room.
var keepScript = goredis.NewScript(prelude + `
local most = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', gone, '-inf', now - tonumber(ARGV[2]))
local n = redis.call('XLEN', letters)
local verdicts, refused = {}, 0
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local kept = 1
  if redis.call('HEXISTS', index, id) == 0 and not redis.call('ZSCORE', gone, id) then
    if n < most then
      redis.call('HSET', index, id, redis.call('XADD', letters, '*', 'id', id, 'letter', ARGV[i + 1]))
      n = n + 1
    else
      kept, refused = 0, refused + 1
    end
  end
  verdicts[#verdicts + 1] = kept
end
if refused > 0 then redis.call('HINCRBY', counts, 'refused', refused) end
return verdicts`)

// settleScript says how redrives of letters ended.
// ARGV: for each letter its id, how many take its place, and of each of those the id and the record. The first one takes the
// letter's entry over, and with it its turn; it may be the letter itself.
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
// ARGV: their ids. Returns for each since when, in milliseconds: one whose end is not known began before. 0: it is gone.
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

// dropScript forgets letters. ARGV: their ids. Returns how many there were.
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

// lockScript takes, keeps or lets go of the right to redrive a flow.
// KEYS: the flow's redrive. ARGV: who, and for how many milliseconds; 0: not any more. Returns 1 where it is theirs.
var lockScript = goredis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return 1`)
