-- ARGV 5: digests; 6: how many suspects are taken over at once ('0': none may be; 'U': lapsed claims are no suspects,
-- since none of the user's code runs); 7: '1' to revive dead events; 8: '1' to return settled records too.
-- Returns thirteen bytes for each event: the answer, and three numbers. Then 16 bytes of each settled record.
local digests, unhandled, together, revive = ARGV[5], ARGV[6] == 'U', tonumber(ARGV[6]) or 0, ARGV[7] == '1'
local found = ARGV[8] == '1' and {}
local answers = {}

local function answer(kind, a, b, c) return struct.pack('>BI4I4I4', kind, a, b, c) end

local fresh = answer(1, 1, 0, 0)
local fresh_tail = struct.pack('>I8I4I4I2I2I2', now + lease, lease, 1, 0, 0, together) .. token

local function win(i, r, digest)
  r.company = together
  lease_to_me(i, r, digest)
  return answer(1, r.epoch, r.takeovers, r.alone)
end

local function may_be_taken(r)
  if unhandled then return true end
  return together > 0 and (r.company == 0 or together <= math.max(1, math.floor(r.company / 2)))
end

local function claim_held(i, r, digest)
  local mine = r.state == LEASED and r.owner == token
  local same = r.digest == digest and 1 or 0
  if r.state == LEASED and not mine and runs(i, r) then return answer(2, r.ends - now, same, 0) end
  local suspect = r.takeovers > 0 or r.state == LEASED and not mine
  if suspect and not (mine and together > 0 or may_be_taken(r)) then return answer(3, 0, same, r.company) end
  if not mine then -- mine: the reply to an earlier claim was lost, so the epoch stays
    r.epoch = r.epoch + 1
    if r.state == LEASED then -- a released claim is won without a takeover
      r.takeovers = r.takeovers + 1
      if r.company == 1 then r.alone = r.alone + 1 end -- only such an owner counts against the event
    end
  end
  return win(i, r, digest)
end

for i = 1, count do
  local record, digest = records[i], eight(digests, i)
  local state = state_of(record)
  if not state then
    put(i, LEASED .. digest .. fresh_tail)
    answers[i] = fresh
  elseif state == LEASED or state == RELEASED then
    answers[i] = claim_held(i, read(record), digest)
  elseif state == DEAD and revive then
    answers[i] = win(i, {epoch = 1, takeovers = 0, alone = 0}, digest)
  else
    answers[i] = answer(state == DONE and 4 or 5, 0, string.sub(record, 2, 9) == digest and 1 or 0, 0)
    if found then found[#found + 1] = proof_in(record) end
  end
end
write_all()
return table.concat(answers) .. (found and table.concat(found) or '')
