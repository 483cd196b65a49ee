return {
  routes = {
    ["/catalog/:id"] = { mode = "on", ttl = 2, stale_while_revalidate = 30 },
  },
}
