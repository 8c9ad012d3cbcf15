-- Shared by all scripts on claims; put before each of them.
-- KEYS: the place's mark, then one key for each event.
-- ARGV: the place that the caller believes in, its token, lease and window in milliseconds, then the script's own.
-- A record: its state, 8 bytes of the content's digest; unless settled also until (ms), epoch, takeovers, the token.
local LEASED, RELEASED, DONE, DEAD = 'L', 'R', 'D', 'X'
local HEAD = '>c1c8I8I4I4'
local place = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. '.' .. (redis.call('GET', KEYS[1]) or '')
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

local function read(record) -- digest, until, epoch, takeovers, owner
  local _, digest, ends, epoch, takeovers = struct.unpack(HEAD, record)
  return digest, ends, epoch, takeovers, string.sub(record, 26)
end

local function state_of(record) return record and string.sub(record, 1, 1) end

local function write(i, state, digest, ends, epoch, takeovers, owner)
  redis.call('SET', KEYS[i + 1], struct.pack(HEAD, state, digest, ends, epoch, takeovers) .. owner, 'PX', window)
end

local function write_settled(i, state, digest) redis.call('SET', KEYS[i + 1], state .. digest, 'PX', window) end
