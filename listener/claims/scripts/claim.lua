-- ARGV 5: digests; 6: '1' to take over what lapsed; 7: '1' to revive what is dead.
-- Returns nine bytes for each event: the answer, and two numbers.
local digests, take_over, revive = ARGV[5], ARGV[6] == '1', ARGV[7] == '1'
local answers = {}
local fresh = struct.pack('>BI4I4', 1, 1, 0)
local fresh_tail = struct.pack('>I8I4I4', now + lease, 1, 0) .. token

local function answer(kind, a, b) return struct.pack('>BI4I4', kind, a, b) end

local function win(i, digest, epoch, takeovers)
  write(i, LEASED, digest, now + lease, epoch, takeovers, token)
  return answer(1, epoch, takeovers)
end

local function claim_leased(i, record, digest)
  local other, ends, epoch, takeovers, owner = read(record)
  local same = other == digest and 1 or 0
  if owner == token then return win(i, digest, epoch, takeovers) end
  if ends > now then return answer(2, ends - now, same) end
  if take_over then return win(i, digest, epoch + 1, takeovers + 1) end
  return answer(3, 0, same)
end

for i = 1, count do
  local record, digest = records[i], eight(digests, i)
  local state = state_of(record)
  if not state then
    keep(i, LEASED .. digest .. fresh_tail)
    answers[i] = fresh
  elseif state == LEASED then
    answers[i] = claim_leased(i, record, digest)
  elseif state == RELEASED then
    local _, _, epoch, takeovers = read(record)
    answers[i] = win(i, digest, epoch + 1, takeovers)
  elseif state == DEAD and revive then
    answers[i] = win(i, digest, 1, 0)
  else
    answers[i] = answer(state == DONE and 4 or 5, 0, string.sub(record, 2, 9) == digest and 1 or 0)
  end
end
write_all()
return table.concat(answers)
