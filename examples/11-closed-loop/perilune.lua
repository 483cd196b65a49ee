-- A service whose pool is too small for its load; run it by `make demo`, which starts PostgreSQL and clients as well and
-- says by DATABASE_URL where it is.
return {
  postgres = { main = { dsn = "postgresql:///postgres", min = 1, max = 2 } },
  settings = { ["analysis.min_samples"] = 20 },
}
