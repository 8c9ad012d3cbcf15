-- Shared by all scripts on claims; it is put before each of them.
-- KEYS: the place's mark, then one key for each event.
-- ARGV: the place that the caller believes in; its token; lease and window in milliseconds; then the script's own.
-- A record: its state and 8 bytes of the content's digest. Unless settled also: until when it runs and for how long it
-- was granted (ms), its epoch, how many owners were lost, how many of them while they ran it alone, how many suspects
-- the present owner took over at once (0: it is no suspect), and the token. A settled record has 8 bytes of proof too, if
-- the listeners share a secret.
local LEASED, RELEASED, DONE, DEAD = 'L', 'R', 'D', 'X'
local HEAD = '>c1c8I8I4I4I2I2I2'
local server = redis.call('INFO', 'server')
local place = string.match(server, 'run_id:(%x+)') .. '.' .. (redis.call('GET', KEYS[1]) or '')
if place ~= ARGV[1] then
  return redis.error_reply('PLACECHANGED this is ' .. place)
end
local token, lease, window = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = #KEYS - 1
local records = {}
for first = 2, #KEYS, 1000 do
  local part = redis.call('MGET', unpack(KEYS, first, math.min(first + 999, #KEYS)))
  for i = 1, #part do records[first + i - 2] = part[i] end
end

local function eight(digests, i) return string.sub(digests, i * 8 - 7, i * 8) end

local function owner_of(record) return string.sub(record, 32) end

local function read(record)
  local r = {}
  r.state, r.digest, r.ends, r.span, r.epoch, r.takeovers, r.alone, r.company = struct.unpack(HEAD, record)
  r.owner = owner_of(record)
  return r
end

local function state_of(record) return record and string.sub(record, 1, 1) end

-- What follows the state of a settled record, however somebody may have written it.
local function proof_in(record) return string.sub(record .. string.rep('\0', 16), 2, 17) end

-- Records are written at the end of the script: many by one command, at half the cost, where the server has it.
local FEW = 8
local writes = {'MSETEX', 0}

local function put(i, record)
  local n = #writes
  writes[n + 1], writes[n + 2] = KEYS[i + 1], record
end

local function write(i, r)
  local takeovers, alone = math.min(r.takeovers, 65535), math.min(r.alone, 65535)
  put(i, struct.pack(HEAD, r.state, r.digest, r.ends, r.span, r.epoch, takeovers, alone, r.company) .. r.owner)
end

local function lease_to_me(i, r, digest)
  r.state, r.digest, r.ends, r.span, r.owner = LEASED, digest, now + lease, lease, token
  write(i, r)
end

-- A lease that ends later than one granted now shows that the clock went back. It counts from now on. So a dead owner's
-- lease ends in time, and a living owner renews it first.
local function runs(i, r)
  if r.ends > now + r.span then
    r.ends = now + r.span
    write(i, r)
  end
  return r.ends > now
end

local function is_at_least(name, major, minor)
  local x, y = string.match(server, name .. '_version:(%d+)%.(%d+)')
  return x and (tonumber(x) > major or tonumber(x) == major and tonumber(y) >= minor)
end

local function write_at_once(last)
  writes[2], writes[last + 1], writes[last + 2] = last / 2 - 1, 'PX', window
  local written = redis.pcall(unpack(writes))
  return not (type(written) == 'table' and written.err) -- the user may not be allowed to run MSETEX
end

local function write_all()
  local last = #writes
  local many = last > 2 * FEW and (is_at_least('valkey', 9, 1) or is_at_least('redis', 8, 4))
  if many and write_at_once(last) then return end
  for n = 3, last, 2 do redis.call('SET', writes[n], writes[n + 1], 'PX', window) end
end

-- Without room, settled events are forgotten at once: a row or a burial in PostgreSQL knows them. So their leases make
-- room for new ones.
local function forget_all()
  for first = 3, #writes, 2000 do
    local keys = {}
    for n = first, math.min(first + 1998, #writes), 2 do keys[#keys + 1] = writes[n] end
    redis.call('DEL', unpack(keys))
  end
end

local function write_or_forget()
  if window == '0' or not pcall(write_all) then forget_all() end
end
