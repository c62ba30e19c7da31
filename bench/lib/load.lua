-- Posts the bodies of the file named by PATIENTS (one JSON object a line), round and round, to the path TARGET.
-- RATE, requests a second, spaces them evenly, as long as a connection is free; without it each connection sends its
-- next request as soon as it was answered.
local bodies = {}
for line in io.lines(os.getenv("PATIENTS")) do bodies[#bodies + 1] = line end
local headers = { ["Content-Type"] = "application/json" }
local path = os.getenv("TARGET") or "/predecir"
local rate = tonumber(os.getenv("RATE") or "")
local next_body = 0

function request()
  next_body = next_body % #bodies + 1
  return wrk.format("POST", path, headers, bodies[next_body])
end

if rate then
  local ffi = require("ffi")
  ffi.cdef("typedef struct { long seconds, nanoseconds; } moment; int clock_gettime(int, moment *);")
  local moment, monotonic = ffi.new("moment"), 1
  local due

  function delay() -- milliseconds until the next request is due
    ffi.C.clock_gettime(monotonic, moment)
    local now = tonumber(moment.seconds) * 1e3 + tonumber(moment.nanoseconds) / 1e6
    due = (due or now) + 1e3 / rate
    return math.max(0, math.floor(due - now + 0.5))
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nJSON {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
