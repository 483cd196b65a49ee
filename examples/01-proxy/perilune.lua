-- Everything goes to `backend`, which is one peer or several: { "http://10.0.0.1:3000", "http://10.0.0.2:3000" }.
return {
  upstreams = { backend = { env("BACKEND") or "http://127.0.0.1:3000" } },
  upstream = "backend",
}
