"""Makes Redis's records look as if its clock had gone back: every present lease ends later by that much.

The server's own clock is not changed: that needs privileges, and would affect everything else on this machine.
"""

from redis.asyncio import Redis

BACK = 3_600.0
# A leased or released record, as in ``prelude.lua``: state (1 byte), digest (8), end of the lease in ms (8), further
# fields up to byte 31, then the owner's token.
TURN = """
local turned = 0
local cursor = '0'
repeat
  local found = redis.call('SCAN', cursor, 'MATCH', '{*', 'COUNT', 1000, 'TYPE', 'string')
  cursor = found[1]
  for _, key in ipairs(found[2]) do
    local record = redis.call('GET', key)
    if record and string.match(record, '^[LR]') and #record > 31 then
      local ends = struct.unpack('>I8', record, 10) + tonumber(ARGV[1])
      redis.call('SET', key, string.sub(record, 1, 9) .. struct.pack('>I8', ends) .. string.sub(record, 18), 'KEEPTTL')
      turned = turned + 1
    end
  end
until cursor == '0'
return turned
"""


async def turn_back(url: str, seconds: float = BACK) -> int:
    """Move the end of all leases; return how many there were."""
    client = Redis.from_url(url)
    try:
        return int(await client.eval(TURN, 0, int(seconds * 1000)))
    finally:
        await client.aclose()
