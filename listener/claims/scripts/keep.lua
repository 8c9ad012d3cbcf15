-- ARGV 5: digests; 6: epoch and takeovers of each, eight bytes; 7: '1' to take what nobody is running (cover).
-- Returns one byte for each event: '1' mine, '0' another's or settled.
local digests, epochs, cover = ARGV[5], ARGV[6], ARGV[7] == '1'
local answers = {}
for i = 1, count do
  local record = records[i]
  local state = state_of(record)
  local mine = not state
  local epoch, takeovers = struct.unpack('>I4I4', epochs, i * 8 - 7)
  if state == LEASED or state == RELEASED then
    local _, ends, old_epoch, old_takeovers, owner = read(record)
    mine = state == LEASED and owner == token or cover and (state == RELEASED or ends <= now)
    epoch, takeovers = math.max(epoch, old_epoch), math.max(takeovers, old_takeovers)
  end
  if mine then write(i, LEASED, eight(digests, i), now + lease, epoch, takeovers, token) end
  answers[i] = mine and '1' or '0'
end
write_all()
return table.concat(answers)
