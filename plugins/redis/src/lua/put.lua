-- Writes records, each unless the record that is there is later.
--
-- KEYS[3..]: for each record its result key, its status key and its queue's set.
-- ARGV[4] is the channel for completions, then for each record: mode (n newer, a absent,
-- w always), job id, expiry for Redis in milliseconds or '', and the JSON.
-- Returns one character per record, 1 written or 0 stale, then '!' when nobody could be told.
local channel = ARGV[4]
local outcomes, completed = {}, {}
local listed, expiring, members, kept_until = {}, {}, {}, {}
local failure

local function replaces(status, retries, old_status, old_retries)
  local rank, old_rank = RANK[status], RANK[old_status]
  if status == 'queued' and old_rank == 3 then
    return false
  end
  if retries ~= old_retries then
    return retries > old_retries
  end
  return rank > old_rank or (rank == old_rank and rank < 3)
end

-- One command for many items, in portions that fit on Lua's stack.
local function call_with(command, key, items)
  for from = 1, #items, 1000 do
    local reply = redis.pcall(command, key, unpack(items, from, math.min(from + 999, #items)))
    if type(reply) == 'table' and reply.err then
      failure = failure or reply
    end
  end
end

local function flush()
  call_with('ZADD', scan_index, listed)
  call_with('ZADD', expiry_index, expiring)
  for key, ids in pairs(members) do
    call_with('SADD', key, ids)
  end
  listed, expiring, members = {}, {}, {}
end

local function write(result_key, status_key, status, expires_ms, json)
  local reply
  if expires_ms == '' then
    reply = redis.pcall('SET', result_key, json)
    if not reply.err then
      reply = redis.pcall('SET', status_key, status)
    end
  else
    reply = redis.pcall('SET', result_key, json, 'PXAT', expires_ms)
    if not reply.err then
      reply = redis.pcall('SET', status_key, status, 'PXAT', expires_ms)
    end
  end
  return reply.err and reply
end

for number = 0, (#KEYS - 2) / 3 - 1 do
  local result_key, status_key, set_key =
    KEYS[3 + number * 3], KEYS[4 + number * 3], KEYS[5 + number * 3]
  local mode, id = ARGV[5 + number * 4], ARGV[6 + number * 4]
  local expires_ms, json = ARGV[7 + number * 4], ARGV[8 + number * 4]
  local status, retries, expires, index = string.match(json, HEAD)
  retries = tonumber(retries)
  local old_status, old_retries, old_expires, old_index, old_queue = read(result_key)

  local stale = false
  if old_status and mode ~= 'w' and not has_expired(old_expires, old_index) then
    if mode == 'a' then
      stale = true
    elseif old_status ~= 'corrupt' then
      stale = not replaces(status, retries, old_status, old_retries)
    end
  end

  if stale then
    outcomes[#outcomes + 1] = '0'
  else
    local gone = expires ~= '' and not_after(expires, now)
    if gone then
      redis.call('DEL', result_key, status_key)
    else
      -- The only thing that can fail: Redis checks memory, role and disk before the first write.
      failure = write(result_key, status_key, status, expires_ms, json)
      if failure then
        break
      end
    end
    outcomes[#outcomes + 1] = '1'
    if RANK[status] == 3 then
      completed[#completed + 1] = status .. ':' .. #id .. ':' .. id
    end

    if old_index and (gone or old_index ~= index) then
      flush()
      unlist(unquote(old_index) .. id, not gone and queue_of(unquote(index)) or nil)
    elseif old_queue and (gone or queue_key(old_queue) ~= set_key) then
      redis.pcall('SREM', queue_key(old_queue), id)
    end
    if not gone then
      if old_index ~= index then
        local member = unquote(index) .. id
        listed[#listed + 1] = '0'
        listed[#listed + 1] = member
        if expires ~= '' then
          expiring[#expiring + 1] = expires_ms
          expiring[#expiring + 1] = member
        end
        local set = members[set_key]
        if not set then
          set = {}
          members[set_key] = set
        end
        set[#set + 1] = id
      elseif expires ~= '' and (old_expires == '' or not not_after(old_expires, expires)) then
        -- A later expiry is left to the cleanup, which looks at the record again.
        expiring[#expiring + 1] = expires_ms
        expiring[#expiring + 1] = unquote(index) .. id
      end
      local kept = kept_until[set_key]
      if expires == '' then
        kept_until[set_key] = false
      elseif kept == nil or (kept and tonumber(expires_ms) > kept) then
        kept_until[set_key] = tonumber(expires_ms)
      end
    end
  end
end
flush()

-- rabbitmq-arq gives the set the life of its own latest record, which may be shorter than ours.
for set_key, kept in pairs(kept_until) do
  local left = redis.call('PTTL', set_key)
  if left >= 0 then
    if not kept then
      redis.call('PERSIST', set_key)
    elseif kept > tonumber(now) / 1000 + left then
      redis.call('PEXPIREAT', set_key, string.format('%.0f', kept))
    end
  end
end

local told = ''
if #completed > 0 then
  local reply = redis.pcall('PUBLISH', channel, table.concat(completed))
  if type(reply) == 'table' and reply.err then
    told = '!'
  end
end
return failure or (table.concat(outcomes) .. told)
