-- Writes records, each unless the record that is there is later. No job is among them twice.
--
-- KEYS[3..]: for each record its result key, its status key and its queue's set.
-- ARGV[4] is the channel for completions, then for each record: mode (n newer, a absent,
-- w always) and length of the job id, the job id, where the index entry in the JSON ends, expiry
-- for Redis in milliseconds or '', and the JSON.
-- A record that comes alone may wait under a key, which is the last argument. Its JSON is then only
-- as much as is looked at here, and what waits is moved instead of copied.
-- Returns one character per record, 1 written or 0 stale, then '!' when nobody could be told.
local channel = ARGV[4]
local outcomes, completed = {}, {}
local values, expiries = {}, {}
local value_count, expiry_count, completed_count = 0, 0, 0
local listed, expiring, members, kept_until = {}, {}, {}, {}
local failure
-- Small records go along with the word that a job has ended: who waits for it need not read it.
local MAX_TOLD, MAX_TOLD_TOGETHER = 4096, 32768
local told_bytes = 0
local staged = ARGV[5 + (#KEYS - 2) / 3 * 5]

local function replaces(letter, attempt, old_letter, old_attempt)
  local rank, old_rank = RANK[letter], RANK[old_letter]
  if rank == 0 and old_rank == 3 then
    return false
  end
  if attempt ~= old_attempt then
    return attempt > old_attempt
  end
  return rank > old_rank or (rank == old_rank and rank < 3)
end

-- One command for many items, in portions that fit on Lua's stack.
local function call_with(command, key, items)
  for from = 1, #items, 1000 do
    local upto = math.min(from + 999, #items)
    local reply
    if key then
      reply = redis.pcall(command, key, unpack(items, from, upto))
    else
      reply = redis.pcall(command, unpack(items, from, upto))
    end
    if type(reply) == 'table' and reply.err then
      failure = failure or reply
      return
    end
  end
end

-- Does what has been decided. The first command is the one that can fail: Redis checks memory,
-- role and disk before the first write of a script.
local function flush()
  call_with('MSET', nil, values)
  if failure then
    return
  end
  for at = 1, expiry_count, 2 do
    redis.call('PEXPIREAT', expiries[at], expiries[at + 1])
  end
  call_with('ZADD', scan_index, listed)
  call_with('ZADD', expiry_index, expiring)
  for key, ids in pairs(members) do
    call_with('SADD', key, ids)
  end
  values, expiries, listed, expiring, members = {}, {}, {}, {}, {}
  value_count, expiry_count = 0, 0
end

for number = 0, (#KEYS - 2) / 3 - 1 do
  local key_at, argument_at = 3 + number * 3, 5 + number * 5
  local result_key, status_key, set_key = KEYS[key_at], KEYS[key_at + 1], KEYS[key_at + 2]
  local mode, id, index_end = ARGV[argument_at], ARGV[argument_at + 1], ARGV[argument_at + 2]
  local expires_ms, json = ARGV[argument_at + 3], ARGV[argument_at + 4]
  local letter, attempt, expires = parts(json)
  local way = sub(mode, 1, 1)

  local head = read_head(result_key)
  local ours = head ~= '' and is_ours(head)
  local stale, old_letter, old_attempt, old_expires, old_queue = false
  if head ~= '' then
    if ours then
      old_letter, old_attempt, old_expires = parts(head)
    else
      old_letter, old_attempt, old_expires, old_queue = read_foreign(result_key)
    end
    if way ~= 'w' and not has_expired(old_expires) then
      stale = way == 'a'
        or (old_letter ~= nil and not replaces(letter, attempt, old_letter, old_attempt))
    end
  end

  if stale then
    outcomes[number + 1] = '0'
    if staged then
      redis.call('DEL', staged)
    end
  else
    outcomes[number + 1] = '1'
    local word = WORD[letter]
    local gone = has_expired(expires)
    if RANK[letter] == 3 then
      local at = completed_count
      completed[at + 1], completed[at + 2], completed[at + 3] = word, ':', sub(mode, 2)
      completed[at + 4], completed[at + 5], completed[at + 6] = ':', id, ':'
      completed_count = at + 6
      if not (gone or staged) and #json <= MAX_TOLD and told_bytes + #json <= MAX_TOLD_TOGETHER then
        completed[at + 7], completed[at + 8], completed[at + 9] = #json, ':', json
        completed_count = at + 9
        told_bytes = told_bytes + #json
      else
        completed[at + 7] = '0:'
        completed_count = at + 7
      end
    end
    -- With the quote that ends them, or one may be the beginning of the other.
    local same = ours and sub(head, INDEX_AT, index_end + 1) == sub(json, INDEX_AT, index_end + 1)
    local index = not same and unquote(sub(json, INDEX_AT, index_end))

    local old_index = ours and (gone or not same) and index_of(result_key, head)
    if staged then
      -- The first command that writes, so that nothing has happened when it fails.
      local reply = redis.pcall('RENAME', staged, result_key)
      if type(reply) == 'table' and reply.err then
        return redis.error_reply('NOTSTAGED ' .. reply.err)
      end
      redis.call('PERSIST', result_key)
    end
    if old_index then
      flush()
      same = old_index == index
      if gone or not same then
        unlist(old_index .. id, not gone and queue_in(index) or nil)
      end
    elseif old_queue and (gone or queue_key(old_queue) ~= set_key) then
      redis.pcall('SREM', queue_key(old_queue), id)
    end

    if gone then
      redis.call('DEL', result_key, status_key)
    else
      local at = value_count
      values[at + 1], values[at + 2] = status_key, word
      value_count = at + 2
      if not staged then
        values[at + 3], values[at + 4] = result_key, json
        value_count = at + 4
      end
      if expires_ms ~= '' then
        at = expiry_count
        expiries[at + 1], expiries[at + 2], expiries[at + 3], expiries[at + 4] =
          result_key, expires_ms, status_key, expires_ms
        expiry_count = at + 4
      end
      if not same then
        local member = index .. id
        listed[#listed + 1] = '0'
        listed[#listed + 1] = member
        if expires_ms ~= '' then
          expiring[#expiring + 1] = expires_ms
          expiring[#expiring + 1] = member
        end
        local set = members[set_key]
        if not set then
          set = {}
          members[set_key] = set
        end
        set[#set + 1] = id
      elseif expires < old_expires then
        -- A later expiry is left to the cleanup, which looks at the record again.
        expiring[#expiring + 1] = expires_ms
        expiring[#expiring + 1] = unquote(sub(json, INDEX_AT, index_end)) .. id
      end
      local kept = kept_until[set_key]
      if not kept or kept < expires then
        kept_until[set_key] = expires
      end
    end
  end
  if failure then
    break
  end
end
if not failure then
  flush()
end

-- rabbitmq-arq gives the set the life of its own latest record, which may be shorter than ours.
for set_key, kept in pairs(kept_until) do
  local left = redis.pcall('PTTL', set_key)
  if type(left) == 'number' and left >= 0 then
    if sub(kept, 1, 1) == '1' then
      redis.call('PERSIST', set_key)
    elseif tonumber(milliseconds(kept)) > tonumber(milliseconds(now)) + left then
      redis.call('PEXPIREAT', set_key, milliseconds(kept))
    end
  end
end

local told = ''
if completed_count > 0 and not failure then
  local reply = redis.pcall('PUBLISH', channel, table.concat(completed))
  if type(reply) == 'table' and reply.err then
    told = '!'
  end
end
return failure or (table.concat(outcomes) .. told)
