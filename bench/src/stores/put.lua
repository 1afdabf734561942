-- Writes records, each unless a later one is there; what a program would write by hand.
--
-- KEYS: both indexes, then for each record its result key, its status key and its queue's set.
-- ARGV: the channel, then for each record its id, status, attempt, expiry in milliseconds, member
-- of the indexes, and JSON. Returns how many were written.
local RANK = { queued = 0, in_progress = 1, retrying = 2, completed = 3, failed = 3, aborted = 3 }
local written, ended = 0, {}
for number = 0, (#KEYS - 2) / 3 - 1 do
  local result_key, status_key, set_key = unpack(KEYS, 3 + number * 3, 5 + number * 3)
  local id, status, attempt, expires_ms, member, json = unpack(ARGV, 2 + number * 6, 7 + number * 6)
  local stored = redis.call('GET', result_key)
  local stale = false
  if stored then
    stored = cjson.decode(stored)
    local rank, stored_rank = RANK[status], RANK[stored.status]
    local later = tonumber(attempt) - stored.retry_count - 1
    stale = rank == 0 and stored_rank == 3 or later < 0
      or later == 0 and (rank < stored_rank or rank == stored_rank and rank == 3)
    if not stale and stored.member ~= member then
      redis.call('ZREM', KEYS[1], stored.member)
      redis.call('ZREM', KEYS[2], stored.member)
    end
  end
  if not stale then
    written = written + 1
    redis.call('SET', result_key, json, 'PXAT', expires_ms)
    redis.call('SET', status_key, status, 'PXAT', expires_ms)
    redis.call('ZADD', KEYS[1], 0, member)
    redis.call('ZADD', KEYS[2], expires_ms, member)
    redis.call('SADD', set_key, id)
    if RANK[status] == 3 then
      ended[#ended + 1] = status .. ':' .. #id .. ':' .. id
    end
  end
end
if #ended > 0 then
  redis.call('PUBLISH', ARGV[1], table.concat(ended))
end
return written
