-- Carries out the effects of several Saves, each effect once. The effects come in parts; all effects of a part belong to one function and one
-- batch. Each part has a record: a hash that remembers which effects the function had for the batch's stream. A field of the record
-- stands for a batch and a way to come to an effect; each row of the batch has a bit in the field's value.
--
-- KEYS: first the key of the once-windows, if the script may read it. Then for each part its record, and the key of each effect.
--
-- ARGV: how long records are kept, in ms; whether KEYS begins with the once-windows, 1 or 0. Then for each part:
--   the batch's sequence and its stream's floor, each with 20 digits, so that they compare as texts. For rows of a log, the letter t and the term;
--     and the block of the log's floor with 20 digits, a point, and the floor's place in the block with 4
--   the number of the part's fields, and the number of its effects
--   a letter for the operation of each effect; a capital letter means the operation and field of the effect before
--   six bytes for each effect: its field, counted from 1, in four bytes, and the number of its bit in two
--   the fields, each with the bits to set
--   the arguments of the effects
--
-- The answer: the number of parts, then pairs of a number and a text. A number above zero is an effect that did not take place, counted over all
-- parts, and the text is the error. The text is empty if the effect was not tried, because an earlier one on its key failed by a fault that was not
-- its own; it comes again. A number below zero is a part of which nothing took place, and the text is the error. The text is empty if the
-- batch lies below the floor, and LOG_SUPERSEDED if a later term of its log has begun.
--
-- The record of a log has a field for each block of positions, named by the block. A bit below the floor counts as set: the row is settled. The field
-- "term" is the highest term that was seen.

local byte, char, sub, find, upper, floor = string.byte, string.char, string.sub, string.find, string.upper, math.floor
local call, pcall, keep = redis.call, redis.pcall, tonumber(ARGV[1])
local log_keep = 2592000000 -- how long records of logs are kept at least, in ms: 30 days
local most = 1000 -- the largest number of fields that one command names
local row_answers = {--[[row answers]]} -- the beginnings of errors that are an effect's own fault

-- Returns the bits that two bytes have in common.
local library = rawget(_G, 'bit')
local common = library and library.band or function(x, y)
  local both, place = 0, 1
  while x > 0 and y > 0 do
    if x % 2 == 1 and y % 2 == 1 then both = both + place end
    x = floor(x / 2)
    y = floor(y / 2)
    place = place * 2
  end
  return both
end

-- Returns the bits that are in one string or the other, and whether some bit is in both.
local function join(old, new)
  local bits, more, both = {byte(old, 1, -1)}, {byte(new, 1, -1)}, false
  for i = 1, #more do
    local x, y = bits[i], more[i]
    if not x or x == 0 then
      bits[i] = y
    elseif y ~= 0 then
      local shared = common(x, y)
      bits[i], both = x + y - shared, both or shared ~= 0
    end
  end
  return char(unpack(bits)), both
end

local function has(bits, n)
  local b = byte(bits, floor(n / 8) + 1)
  return b ~= nil and common(b, 2 ^ (n % 8)) ~= 0
end

local function without(bits, n)
  local i = floor(n / 8) + 1
  return sub(bits, 1, i - 1) .. char(byte(bits, i) - 2 ^ (n % 8)) .. sub(bits, i + 1)
end

-- Returns the field that has an effect's bit, counted from 1 in its part, and the number of the bit.
local function place(refs, e)
  local a, b, c, d, x, y = byte(refs, 6 * e - 5, 6 * e)
  return a + 256 * (b + 256 * (c + 256 * d)), x + 256 * y
end

-- Returns why a command failed, or nil if it did not.
local function failure(r) return type(r) == 'table' and r.err or nil end

-- Sets a new floor, and drops the fields of batches below it. It looks for such fields only if the record has more than twice as many fields as
-- were left the last time. It returns an error if it could not.
local function raise(record, least, kept)
  local why = failure(pcall('HSET', record, 'floor', least))
  local size = why or pcall('HLEN', record)
  why = why or failure(size)
  if why or size <= 2 * kept + 64 then return why end
  local fields = pcall('HKEYS', record)
  why = failure(fields)
  if why then return why end
  local gone, left, lowest = {}, 0, sub(least, 1, 20)
  for _, field in ipairs(fields) do
    if byte(field) <= 57 and sub(field, 1, 20) < lowest then gone[#gone + 1] = field else left = left + 1 end
  end
  for i = 1, #gone, most do
    why = why or failure(pcall('HDEL', record, unpack(gone, i, math.min(i + most - 1, #gone))))
  end
  return why or failure(pcall('HSET', record, 'kept', left))
end

-- Returns the bits of a block below a place in it.
local function below(place)
  return string.rep('\255', floor(place / 8)) .. char(2 ^ (place % 8) - 1)
end

-- Sets the bits of a part whose rows stand in a log, and returns what enter returns. lowest is the record's floor.
local function enter_log(record, lowest, first, fields)
  local block, settled = sub(lowest, 1, 20), below(tonumber(sub(lowest, 22)))
  local before, after = nil, {}
  for lo = 0, fields - 1, most do
    local hi = math.min(lo + most, fields)
    local names, args = {}, {}
    for i = lo + 1, hi do names[i - lo] = ARGV[first + 2 * i - 1] end
    local held = pcall('HMGET', record, unpack(names))
    local why = failure(held)
    if why then return nil, nil, why end
    for i = lo + 1, hi do
      local of, old, new = sub(names[i - lo], 1, 20), held[i - lo] or '', ARGV[first + 2 * i]
      if of < block then
        before = before or {}
        before[i], after[i] = string.rep('\255', 128), new
      else
        if of == block then old = join(old, settled) end
        local joined, both = join(old, new)
        if both then
          before = before or {}
          before[i] = old
        end
        after[i] = joined
        args[#args + 1] = names[i - lo]
        args[#args + 1] = joined
      end
    end
    if #args > 0 then
      why = failure(pcall('HSET', record, unpack(args)))
      if why then return nil, nil, why end
    end
  end
  return before, after
end

-- Sets a part's bits in its record, before any effect takes place: if Redis is full or must not write, it says so here.
-- It returns the bits of the fields before, for the fields with an effect that took place already, and the bits after. If it returns no bits after, nothing of
-- the part may take place: it returns the error, or none if the batch lies below the floor.
local function enter(record, sequence, least, first, fields)
  local log = byte(sequence) == 116 -- the letter t
  local head = log and pcall('HMGET', record, 'floor', 'kept', 'term') or pcall('HMGET', record, 'floor', 'kept')
  local why = failure(head)
  if why then return nil, nil, why end
  local lowest = head[1] or ''
  if log then
    local term, seen = sub(sequence, 2), head[3]
    if seen and term < seen then return nil, nil, 'LOG_SUPERSEDED' end
    why = term ~= seen and failure(pcall('HSET', record, 'term', term)) or nil
    if why then return nil, nil, why end
  end
  if least > lowest then
    why = raise(record, least, tonumber(head[2] or 0))
    if why then return nil, nil, why end
    lowest = least
  end
  if log then return enter_log(record, lowest, first, fields) end
  if sequence < lowest then return nil end
  local before, after = nil, {}
  for lo = 0, fields - 1, most do
    local hi = math.min(lo + most, fields)
    local names, args = {}, {}
    for i = lo + 1, hi do names[i - lo] = ARGV[first + 2 * i - 1] end
    local held = pcall('HMGET', record, unpack(names))
    why = failure(held)
    if why then return nil, nil, why end
    for i = lo + 1, hi do
      local old, new = held[i - lo], ARGV[first + 2 * i]
      if old then
        local both
        new, both = join(old, new)
        if both then
          before = before or {}
          before[i] = old
        end
      end
      after[i] = new
      args[2 * (i - lo) - 1], args[2 * (i - lo)] = names[i - lo], new
    end
    why = failure(pcall('HSET', record, unpack(args)))
    if why then return nil, nil, why end
  end
  return before, after
end

local commands = {s = 'HSET', i = 'HINCRBY', f = 'HINCRBYFLOAT', a = 'RPUSH', d = 'DEL'}
local counts = {s = 2, i = 2, f = 2, a = 1, d = 0} -- number of arguments: a field and a value, a value alone, none

-- Makes a record expire after keep, or later if another connection with a wider once-window asked for that.
local function prolong(record, keep)
  local longer = pcall('PEXPIRE', record, keep, 'GT')
  if longer == 1 then return end
  if type(longer) == 'table' then
    call('PEXPIRE', record, keep) -- before Redis 7
  else
    call('PEXPIRE', record, keep, 'NX') -- a new record
  end
end

local answer, touched = {0}, {}
local k, a, n, part = tonumber(ARGV[2]), 2, 0, 0 -- numbers of keys, arguments, effects and parts that are done
if k == 1 then
  local widest = pcall('HMGET', KEYS[1], 'keep')
  if not failure(widest) then keep = math.max(keep, tonumber(widest[1] or 0) or 0) end
end
while k < #KEYS do
  local record = KEYS[k + 1]
  local sequence, least, fields, effects = ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  local letters, refs, first = ARGV[a + 5], ARGV[a + 6], a + 6
  k, a, part = k + 1, first + 2 * fields, part + 1
  local before, after, reason = nil, {}, nil
  if fields > 0 then before, after, reason = enter(record, sequence, least, first, fields) end
  if not after then
    answer[#answer + 1], answer[#answer + 2] = -part, reason or ''
  end
  -- undone has the fields with bits to take back. halted has the keys whose later effects are not tried, so that effects keep their order.
  local undone, halted = {}, nil
  local function refuse(e, why)
    answer[#answer + 1], answer[#answer + 2] = n + e, why
    local own = why == ''
    for i = 1, #row_answers do own = own or sub(why, 1, #row_answers[i]) == row_answers[i] end
    if not own then
      halted = halted or {}
      halted[KEYS[k + e]] = true
    end
    if fields > 0 then
      local field, bit = place(refs, e)
      after[field] = without(after[field], bit)
      undone[field] = true
    end
  end
  local function again(e)
    local field, bit = place(refs, e)
    return before[field] and has(before[field], bit)
  end
  local e = 1
  while e <= effects do
    -- Take the effects up to the next operation or field at once: most Saves have only one, and each step saved per effect counts.
    local letter = sub(letters, e, e)
    local name, count, stop = commands[letter], counts[letter], find(letters, '[^' .. upper(letter) .. ']', e + 1) or effects + 1
    local on, step = nil, math.min(count, 1) -- the field, and the number of arguments of each effect beside it
    if count == 2 then on, a = ARGV[a + 1], a + 1 end
    if not after then
      a = a + (stop - e) * step
    elseif letter == 's' and not before then
      for i = e, stop - 1 do
        a = a + 1
        if halted and halted[KEYS[k + i]] then
          refuse(i, '')
        else
          local r = pcall('HSET', KEYS[k + i], on, ARGV[a])
          if r ~= 0 and r ~= 1 then refuse(i, r.err) end
        end
      end
    else
      for i = e, stop - 1 do
        if before and again(i) then
          -- It took place already.
        elseif halted and halted[KEYS[k + i]] then
          refuse(i, '')
        else
          local r
          if count == 2 then
            r = pcall(name, KEYS[k + i], on, ARGV[a + 1])
            if letter == 'i' and type(r) == 'table' and find(r.err, 'not an integer', 1, true) then
              r = pcall('HINCRBYFLOAT', KEYS[k + i], on, ARGV[a + 1])
            end
          elseif count == 1 then
            r = pcall(name, KEYS[k + i], ARGV[a + 1])
          else
            r = pcall(name, KEYS[k + i])
          end
          if type(r) == 'table' and r.err then refuse(i, r.err) end
        end
        a = a + step
      end
    end
    e = stop
  end
  for field in pairs(undone) do call('HSET', record, ARGV[first + 2 * field - 1], after[field]) end
  if fields > 0 and not touched[record] then
    -- It is done even if nothing else was written: a WAIT after the script then waits for everything that was written before.
    prolong(record, byte(sequence) == 116 and math.max(keep, log_keep) or keep)
    touched[record] = true
  end
  k, n = k + effects, n + effects
end
answer[1] = part
return answer
