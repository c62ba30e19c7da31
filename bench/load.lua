-- Posts the patients of the file named by PATIENTS (one JSON object a line), round and round.
local bodies = {}
for line in io.lines(os.getenv("PATIENTS")) do bodies[#bodies + 1] = line end
local headers = { ["Content-Type"] = "application/json" }
local next_body = 0

function request()
  next_body = next_body % #bodies + 1
  return wrk.format("POST", "/predecir", headers, bodies[next_body])
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nJSON {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
