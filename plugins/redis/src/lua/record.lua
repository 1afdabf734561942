-- What every script begins with: how a stored record is read, compared and unlisted.
--
-- ARGV[1] is now in microseconds, ARGV[2] now as text in UTC, ARGV[3] the key prefix.
-- Times are decimal text throughout: Lua's numbers are doubles and lose microseconds after 2255.
local now, now_text, prefix = ARGV[1], ARGV[2], ARGV[3]
local scan_index, expiry_index = KEYS[1], KEYS[2]

-- A record of Warren's begins like this; reading these bytes is enough to decide about a write.
-- The quote that ends the index cannot be one within it: those are escaped.
local HEAD = '^{"status":"([a-z_]+)","retry_count":(%-?%d+),"warren":{"expires":"(%-?%d*)","index":"(.-)"},"job_id":'
local HEAD_BYTES = 512
local RANK = { queued = 0, in_progress = 1, retrying = 2, completed = 3, failed = 3, aborted = 3 }

-- Whether time `a` is at or before time `b`, exactly.
local function not_after(a, b)
  local x, y = tonumber(a), tonumber(b)
  if x ~= y or a == b then
    return x <= y
  end
  if x < 0 then
    a, b = string.sub(b, 2), string.sub(a, 2)
  end
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

-- The text that a JSON string without its quotes stands for.
local function unquote(text)
  if not string.find(text, '\\', 1, true) then
    return text
  end
  return cjson.decode('["' .. text .. '"]')[1]
end

-- A record that is not Warren's: rabbitmq-arq wrote it, or it is damaged.
local function read_foreign(key)
  local text = redis.pcall('GET', key)
  if type(text) ~= 'string' then
    return 'corrupt', 0, ''
  end
  local read, record = pcall(cjson.decode, text)
  if not read or type(record) ~= 'table' or not RANK[record.status] then
    return 'corrupt', 0, ''
  end
  local retries = record.retry_count
  if retries == nil then
    retries = 0
  elseif type(retries) ~= 'number' then
    return 'corrupt', 0, ''
  end
  local expires = type(record.expires_at) == 'string' and record.expires_at or ''
  local queue = type(record.queue_name) == 'string' and record.queue_name or nil
  return record.status, retries, expires, nil, queue
end

-- Status, retry count, expiry, index entry and queue of the record under `key`; nil when there is
-- none. The index entry is nil for a record that is not Warren's, the queue for one that is.
local function read(key)
  local head = redis.pcall('GETRANGE', key, 0, HEAD_BYTES - 1)
  if head == '' then
    return nil
  end
  if type(head) == 'string' then
    local status, retries, expires, index = string.match(head, HEAD)
    if not status and #head == HEAD_BYTES then
      status, retries, expires, index = string.match(redis.call('GET', key), HEAD)
    end
    if status and RANK[status] then
      return status, tonumber(retries), expires, index
    end
  end
  return read_foreign(key)
end

local function has_expired(expires, index)
  if expires == '' then
    return false
  end
  if index then
    return not_after(expires, now)
  end
  local clock, fraction, zone =
    string.match(expires, '^(%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d)(%.?%d*)(.*)$')
  if not clock or (zone ~= 'Z' and zone ~= '+00:00') then
    return false
  end
  if fraction == '' then
    fraction = '.'
  end
  return clock .. string.sub(fraction .. '000000', 1, 7) <= now_text
end

local function queue_key(queue)
  return prefix .. ':queue:' .. queue .. ':results'
end

-- Index entry, queue and job id of a member of the indexes; nil for what Warren did not put there.
local function split(member)
  local digits = string.match(member, '^%d+', 17)
  if not digits or string.sub(member, 17 + #digits, 17 + #digits) ~= ':' then
    return nil
  end
  local from = 18 + #digits
  local upto = from + tonumber(digits) - 1
  return string.sub(member, 1, upto), string.sub(member, from, upto), string.sub(member, upto + 1)
end

-- Takes a job out of both indexes and, unless it stays there, out of its queue's set.
local function unlist(member, stays_in)
  redis.call('ZREM', scan_index, member)
  redis.call('ZREM', expiry_index, member)
  local _, queue, id = split(member)
  if queue and queue ~= stays_in then
    redis.pcall('SREM', queue_key(queue), id)
  end
end

local function queue_of(index)
  local _, queue = split(index)
  return queue
end

