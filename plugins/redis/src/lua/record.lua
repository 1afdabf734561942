-- What every script begins with: how a stored record is read, compared and unlisted.
--
-- ARGV[1] is now as records have it, ARGV[2] now as text in UTC, ARGV[3] the key prefix.
local now, now_text, prefix = ARGV[1], ARGV[2], ARGV[3]
local scan_index, expiry_index = KEYS[1], KEYS[2]

-- A record of Warren's begins with OURS and then, in fixed places, what decides about a write:
-- a letter for its status, its attempt, its expiry; then its index entry as JSON text up to a
-- quote. All of one width, so that they compare as text: Lua's numbers lose microseconds.
local OURS = '{"warren":"'
local HEAD_END = '95'
local INDEX_AT = 40
local RANK = { q = 0, i = 1, r = 2, c = 3, f = 3, a = 3 }
local WORD = {
  q = 'queued', i = 'in_progress', r = 'retrying', c = 'completed', f = 'failed', a = 'aborted',
}
local LETTER = {}
for letter, word in pairs(WORD) do
  LETTER[word] = letter
end

local sub = string.sub

-- Status, attempt and expiry in the head of a record.
local function parts(head)
  return sub(head, 12, 12), sub(head, 13, 22), sub(head, 23, 39)
end

-- Whether the record counts no more. Its expiry begins with 1 when there is none.
local function has_expired(expires)
  return expires <= now
end

-- The first whole millisecond at which an expiry has passed, as text.
local function milliseconds(expires)
  local high, low = tonumber(sub(expires, 2, 9), 16), tonumber(sub(expires, 10), 16)
  local micros = (high - 2147483648) * 4294967296 + low
  return string.format('%.0f', math.ceil(micros / 1000))
end

-- The text that a JSON string without its quotes stands for.
local function unquote(text)
  if not string.find(text, '\\', 1, true) then
    return text
  end
  return cjson.decode('["' .. text .. '"]')[1]
end

-- The index entry of a record of Warren's, of which `head` has been read.
local function index_of(key, head)
  local index = string.match(head, '^(.-)","job_id":', INDEX_AT)
    or string.match(redis.call('GET', key), '^(.-)","job_id":', INDEX_AT)
  return unquote(index or '')
end

local NEVER, PAST = '1', '0'

-- Whether the time that Python wrote has passed.
local function expiry_of_text(text)
  local clock, fraction, zone =
    string.match(text, '^(%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d)(%.?%d*)(.*)$')
  if not clock or (zone ~= 'Z' and zone ~= '+00:00') then
    return NEVER
  end
  if fraction == '' then
    fraction = '.'
  end
  local padded = clock .. sub(fraction .. '000000', 1, 7)
  return padded <= now_text and PAST or NEVER
end

-- A record that is not Warren's: rabbitmq-arq wrote it, or it is damaged, which has no status.
local function read_foreign(key)
  local text = redis.pcall('GET', key)
  if type(text) ~= 'string' then
    return nil, nil, NEVER
  end
  local decoded, record = pcall(cjson.decode, text)
  local letter = decoded and type(record) == 'table' and LETTER[record.status]
  if not letter then
    return nil, nil, NEVER
  end
  local retries = record.retry_count
  if retries == nil then
    retries = 0
  elseif type(retries) ~= 'number' then
    return nil, nil, NEVER
  end
  local attempt = string.format('%010.0f', math.min(math.max(retries + 1, 0), 4294967295))
  local expires = type(record.expires_at) == 'string' and expiry_of_text(record.expires_at) or NEVER
  return letter, attempt, expires, type(record.queue_name) == 'string' and record.queue_name or nil
end

-- The beginning of the record under `key`; '' when there is none, nil for another type of key.
local function read_head(key)
  local head = redis.pcall('GETRANGE', key, '0', HEAD_END)
  return type(head) == 'string' and head or nil
end

local function is_ours(head)
  return head ~= nil and sub(head, 1, 11) == OURS and RANK[sub(head, 12, 12)] ~= nil
end

local function queue_key(queue)
  return prefix .. ':queue:' .. queue .. ':results'
end

-- Index entry, queue and job id of a member of the indexes; nil for what Warren did not put there.
local function split(member)
  local digits = string.match(member, '^%d+', 17)
  if not digits or sub(member, 17 + #digits, 17 + #digits) ~= ':' then
    return nil
  end
  local from = 18 + #digits
  local upto = from + tonumber(digits) - 1
  return sub(member, 1, upto), sub(member, from, upto), sub(member, upto + 1)
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

local function queue_in(index)
  local _, queue = split(index)
  return queue
end

